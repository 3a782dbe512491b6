"""Packed entries against the fields that they are made of."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations

import pytest

from legit_embedding.errors import TaskError
from legit_embedding.sinks import packing
from legit_embedding.sinks.packing import EntryPacker
from legit_embedding.wire.result import Embedded, Origin, Result, Timings
from legit_embedding.wire.task import Address

PLAIN = Embedded("text", "null", 384, "base64_fp32", "AACAPw==")
OUTCOMES = {
    "dim": 3,
    "truncated": True,
    "repaired": True,
    "revision": "abc",
    "scale": "0.007",
    "cached": True,
    "windows": 3,
}
ADDRESSES = ({}, {"app": "shop"}, {"metadata": '{"a": 1}'}, {"app": "", "metadata": "{}"}, {"reply_to": "elsewhere"})


def results() -> list[Result]:
    """Results with every one and every two of the fields that may differ."""
    changes = [dict(some) for size in range(3) for some in combinations(OUTCOMES.items(), size)]
    outcomes = [replace(PLAIN, **change) for change in changes]
    outcomes.append(replace(PLAIN, kind="image", model="clip", encoding="base64_int8", scale="1"))
    errors = [TaskError("expired", "deadline: it is over"), TaskError("too_large", "")]
    return [
        Result(Address(f"task {number}", **address), Origin("stream", f"{number}-0"), outcome, Timings(number, 0, 1234))
        for number, outcome in enumerate([*outcomes, *errors])
        for address in ADDRESSES
    ]


def unpacked(count: int, parts: list[str]) -> list[tuple[str, str]]:
    """The names and values in Redis's own form, read by their lengths."""
    text, found = "".join(parts), []
    while text:
        size, _, rest = text.partition("\r\n")
        assert size.startswith("$")
        end = int(size[1:])
        assert rest[end : end + 2] == "\r\n"
        found.append(rest[:end])
        text = rest[end + 2 :]
    assert len(found) == count
    return list(zip(found[::2], found[1::2], strict=True))


@pytest.mark.parametrize("turn", ["each for the first time", "each for the second time"])
def test_an_entry_is_its_fields(turn: str) -> None:
    packer, every = EntryPacker("a worker"), results()
    for _ in range(1 if "first" in turn else 2):
        for result in every:
            expected = list(result.fields("a worker").items())
            assert unpacked(*packer.pack(result)) == expected


def test_every_field_that_an_answer_can_have_is_tried() -> None:
    """A new field is packed as if it were the same for all answers, unless `EntryPacker` is told of it."""
    tried = {*OUTCOMES, "kind", "model", "encoding", "embedding"}
    assert {each.name for each in fields(Embedded)} - tried == {"cache_key", "cache_s"}  # no fields of an entry
    assert {each.name for each in fields(Address)} == {"task_id", "reply_to", "app", "metadata", "fault"}
    assert {each.name for each in fields(Timings)} == {"prep_ms", "queue_ms", "compute_ms"}
    assert {each.name for each in fields(Result)} == {"address", "origin", "outcome", "timings"}


def test_values_of_producers_make_no_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_LAYOUTS", 4)
    packer = EntryPacker("a worker")
    for number in range(20):
        address = Address(f"{number}", app=f"app {number}", metadata=f'{{"n": {number}}}')
        packer.pack(Result(address, Origin("stream", f"{number}-0"), PLAIN, Timings(number, number, number)))
    assert len(packer._layouts) == 1
    for windows in range(10):
        result = Result(Address("t"), Origin("stream", "1-0"), replace(PLAIN, windows=windows))
        assert unpacked(*packer.pack(result)) == list(result.fields("a worker").items())
        assert len(packer._layouts) <= 4
