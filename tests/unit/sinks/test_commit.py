from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import hiredis
import pytest

from legit_embedding.config import StreamConfig
from legit_embedding.redis_io.connection import _pack
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.commit import Batch
from legit_embedding.sinks.packing import EntryPacker
from legit_embedding.wire.result import Embedded, Origin, Result
from legit_embedding.wire.task import Address
from tests.told import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from legit_embedding.redis_io.connection import Link


class Wire:
    """A link that shows what would be sent."""

    server = "it"

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Wire]:
        yield self

    async def run(self, script: object, keys: list[bytes], arguments: list[Any]) -> list[bytes]:
        reader = hiredis.Reader()
        reader.feed(b"".join(_pack(["EVALSHA", "sha", len(keys), *keys, *arguments])))
        sent: list[bytes] = reader.gets()
        assert reader.gets() is False, "nothing is left over"
        return sent


def answer(origin: Origin, task_id: str, stream: str = "embedding_results") -> Answer:
    outcome = Embedded("text", "null", 1, "base64_fp32", "AACAPw==")
    made = Answer.of(Told(), Result(Address(task_id), origin, outcome))
    made.stream = stream
    return made


@pytest.mark.parametrize(
    ("task_id", "wire"), [("t1", b"t1"), ("", b""), ("a\r\n$1", b"a\r\n$1"), ("ü€", "ü€".encode()), ("\udcff", b"\xff")]
)
def test_a_batch_is_packed_as_the_protocol_has_it(task_id: str, wire: bytes) -> None:
    answers = [
        answer(Origin("stream", "1-0"), task_id),
        answer(Origin("celery", "c1"), "t2", "embedding_results:ä"),
        answer(Origin("local", "local"), "t3"),
    ]
    sent = asyncio.run(Batch(answers, StreamConfig(), EntryPacker("w")).commit(cast("Link", Wire())))
    assert [each.server for each in answers] == ["it"] * 3
    keys = [b"embedding_tasks", b"embedding_results", b"embedding:written:c1", "embedding_results:ä".encode()]
    assert sent[:7] == [b"EVALSHA", b"sha", b"4", *keys]
    assert sent[7:11] == [b"embedding_workers", b"0", b"1", b"3600"]
    arguments = sent[11:]
    heads, firsts = [], []
    while arguments:
        count = int(arguments[3])
        heads.append(arguments[:3])
        firsts.append(dict(zip(arguments[4 : 4 + count : 2], arguments[5 : 4 + count : 2], strict=True))[b"task_id"])
        arguments = arguments[4 + count :]
    assert heads == [[b"s", b"1-0", b"2"], [b"c", b"3", b"4"], [b"l", b"", b"2"]]
    assert firsts == [wire, b"t2", b"t3"]
