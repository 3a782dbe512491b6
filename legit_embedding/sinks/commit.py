"""The atomic step that writes answers and settles their sources, many answers per round trip."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from legit_embedding.redis_io.connection import Packed, Script
from legit_embedding.redis_io.slots import beside, share_a_slot
from legit_embedding.sinks.packing import argument
from legit_embedding.wire.result import VECTOR_FIELDS, Embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Argument, Link
    from legit_embedding.sinks.answer import Answer
    from legit_embedding.sinks.packing import EntryPacker
    from legit_embedding.wire.result import Origin

_REMEMBERED = 4096

DEDUPE_PREFIX = "embedding:written:"
"""Prefix of the keys that record a Celery task's result for ``dedupe_s``: prefix, the hash tag of the task stream if it
has one, and the task id map to the entry id."""

SCRIPT = Script(files(__package__).joinpath("commit.lua").read_text(encoding="utf-8"))

WRITTEN, ALREADY, REFUSED = b"+", b"=", b"-"
"""The first byte of the script's reply; the rest is the entry's id, or the reason of the refusal."""


class Batch:
    """Answers that are committed together, packed once for all attempts."""

    def __init__(self, answers: Sequence[Answer], config: StreamConfig, packer: EntryPacker) -> None:
        self.answers = answers
        self._places: dict[str, int] = {config.tasks: 1}
        self._records = beside(DEDUPE_PREFIX, config.tasks)
        head = (config.group, config.trim_maxlen, int(config.delete_on_ack), config.dedupe_s)
        self._count = 0
        chunks = [self._pack(answer, packer) for answer in answers]
        self._arguments: list[Argument | Packed] = [*head, Packed(self._count, chunks)]
        self._keys = [wire(key) for key in self._places]

    async def commit(self, link: Link) -> list[bytes]:
        """Make one attempt; a repeated attempt settles what an earlier one has left unknown.

        The answers come to know the server that has replied.

        Returns:
            The reply for each answer, in order.

        Raises:
            RedisError: the outcome is unknown.
        """
        async with link.hold() as connection:
            replies: list[bytes] = await connection.run(SCRIPT, self._keys, self._arguments)
            server = connection.server
        for answer in self.answers:
            answer.server = server
        return replies

    def _pack(self, answer: Answer, packer: EntryPacker) -> bytes:
        count, parts = packer.pack(answer.result)
        letter, origin_id = self._origin(answer.result.origin)
        place, size = str(self._place(answer.stream)), f"{count}{self._cached(answer)}"
        self._count += 4 + count
        text = "".join([_often(letter), argument(origin_id), _often(place), _often(size), *parts])
        if text.isascii():
            return text.encode("ascii")
        fields = [part for pair in answer.fields(packer.worker).items() for part in pair]
        return b"".join(map(_wire_argument, (letter, origin_id, place, size, *fields)))

    def _origin(self, origin: Origin) -> tuple[str, str]:
        if origin.kind == "stream":
            return "s", origin.id
        if origin.kind == "celery":
            return "c", str(self._place(self._records + origin.id))
        return "l", ""

    def _cached(self, answer: Answer) -> str:
        """Which of the fields to keep in the content cache, where, and for how long; empty for none."""
        outcome = answer.result.outcome
        if not isinstance(outcome, Embedded) or not outcome.cache_key:
            return ""
        count = 2 * (len(VECTOR_FIELDS) if outcome.scale else len(VECTOR_FIELDS) - 1)
        return f":{self._place(outcome.cache_key)}:{count}:{outcome.cache_s}"

    def _place(self, key: str) -> int:
        return self._places.setdefault(key, len(self._places) + 1)


def fits_the_step(answer: Answer, config: StreamConfig) -> bool:
    """True if the script's keys for this answer are in one slot of a cluster."""
    origin, outcome = answer.result.origin, answer.result.outcome
    keys = [config.tasks, answer.stream]
    if origin.kind == "celery":
        keys.append(record_key(origin.id, config))
    if isinstance(outcome, Embedded) and outcome.cache_key:
        keys.append(outcome.cache_key)
    return share_a_slot(map(wire, keys))


def record_key(celery_id: str, config: StreamConfig) -> str:
    """The key that records the result of a Celery task, in the slot of the task stream if that has a hash tag."""
    return beside(DEDUPE_PREFIX, config.tasks) + celery_id


_often = lru_cache(_REMEMBERED)(argument)
"""`argument` for texts of which few occur."""


def _wire_argument(text: str) -> bytes:
    data = wire(text)
    return b"$%d\r\n%b\r\n" % (len(data), data)


def wire(text: str) -> bytes:
    """Encode text as UTF-8; bytes that were decoded to surrogates are restored unchanged."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def parse(reply: bytes) -> tuple[bytes, str]:
    """Split a reply into its mark and its text."""
    return reply[:1], reply[1:].decode("utf-8", "replace")
