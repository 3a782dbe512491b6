"""Non-atomic commits, for a cluster whose slots rule out the atomic step: write, confirm, then acknowledge.

Each answer is still written before its task is acknowledged, and a task known to be settled is not answered again.
But if a worker dies in between, an answered task stays pending and may be answered twice; ``source`` shows that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from legit_embedding.redis_io.connection import explain
from legit_embedding.sinks.commit import ALREADY, REFUSED, WRITTEN, record_key, wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Argument, Link
    from legit_embedding.sinks.answer import Answer
    from legit_embedding.wire.result import Origin


async def commit(link: Link, answers: Sequence[Answer], config: StreamConfig, worker: str) -> list[bytes]:
    """Do in three round trips the work of the script; returns the same replies.

    Raises:
        RedisError: the outcome is unknown.
    """
    known = await link.pipeline([_question(answer.result.origin, config) for answer in answers])
    replies = [_settled(answer.result.origin, found) for answer, found in zip(answers, known, strict=True)]
    open_ones = [place for place, reply in enumerate(replies) if not reply]
    added = await link.pipeline([_addition(answers[place], config, worker) for place in open_ones])
    settlements: list[list[Argument]] = []
    for place, reply in zip(open_ones, added, strict=True):
        replies[place] = _written(reply)
        if not isinstance(reply, ResponseError):
            settlements += _settlements(answers[place].result.origin, reply, config)
    await link.pipeline(settlements)
    return replies


def _question(origin: Origin, config: StreamConfig) -> list[Argument]:
    if origin.kind == "stream":
        return ["XPENDING", config.tasks, config.group, origin.id, origin.id, 1]
    if origin.kind == "celery":
        return ["GET", wire(record_key(origin.id, config))]
    return ["PING"]


def _settled(origin: Origin, found: Any) -> bytes:  # noqa: ANN401 - a reply of Redis
    """The reply for a task that needs no answer any more; empty if it needs one."""
    if origin.kind == "stream":
        if isinstance(found, ResponseError):
            return ALREADY if str(found).startswith("NOGROUP") else _written(found)
        return b"" if found else ALREADY
    return ALREADY + found if origin.kind == "celery" and isinstance(found, bytes) else b""


def _addition(answer: Answer, config: StreamConfig, worker: str) -> list[Argument]:
    trim: list[Argument] = ["MAXLEN", "~", config.trim_maxlen] if config.trim_maxlen else []
    fields = [wire(part) for pair in answer.fields(worker).items() for part in pair]
    return ["XADD", wire(answer.stream), *trim, "*", *fields]


def _written(reply: bytes | ResponseError) -> bytes:
    return REFUSED + explain(reply).encode() if isinstance(reply, ResponseError) else WRITTEN + reply


def _settlements(origin: Origin, entry_id: bytes, config: StreamConfig) -> list[list[Argument]]:
    if origin.kind == "celery":
        return [["SET", wire(record_key(origin.id, config)), entry_id, "EX", config.dedupe_s]]
    if origin.kind == "stream":
        deletion: list[list[Argument]] = [["XDEL", config.tasks, origin.id]] if config.delete_on_ack else []
        return [["XACK", config.tasks, config.group, origin.id], *deletion]
    return []
