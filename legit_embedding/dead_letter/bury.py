"""Moves undeliverable tasks to the dead letter."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import ClusterCrossSlotError

from legit_embedding.errors import TaskError
from legit_embedding.redis_io.connection import Script
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.commit import wire
from legit_embedding.sinks.routing import Router
from legit_embedding.wire import json_text
from legit_embedding.wire.result import Result, Written
from legit_embedding.wire.task import Address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Argument, Connection, Link
    from legit_embedding.wire.result import Origin
    from legit_embedding.wire.stream_entry import Entry

MAX_DELIVERIES = "max_deliveries"
"""The ``dead_reason`` of a task that reached the limit of deliveries without an answer."""
ANSWER_REFUSED = "answer_refused"
"""The ``dead_reason`` of a task whose answer no result stream accepts."""

PAYLOAD = "payload"
_MOST_ARGUMENTS = 7000
"""The most arguments for which the script is used: Lua passes just under 8,000 to one call."""

SCRIPT = Script(files(__package__).joinpath("bury.lua").read_text(encoding="utf-8"))


class _Nobody:
    """A recipient that ignores the outcome: a buried task's answer is written in the same step."""

    def written(self, written: Written) -> None:
        """Do nothing."""

    def unwritten(self, reason: str) -> None:
        """Do nothing."""

    def task_object(self) -> dict[str, Any]:
        """Empty: the dead letter holds the entry's own fields."""
        return {}


NOBODY = _Nobody()


class DeadLetter:
    """Buries tasks of the stream: their fields go to the dead letter, and ``dead_letter`` is their answer.

    Args:
        config: the streams.
        worker: the identity: the consumer that owns the buried entries, and the answer's ``worker``.
    """

    def __init__(self, config: StreamConfig, worker: str) -> None:
        self._config = config
        self._worker = worker
        self._router = Router(config)
        self.buried = 0

    async def bury(self, link: Link, entry: Entry, fields: Sequence[bytes]) -> bool:
        """Bury one entry; False if this worker no longer owns it.

        Args:
            link: the server.
            entry: the entry, with its number of deliveries.
            fields: its fields as they were sent.

        Raises:
            RedisError: the entry is not buried, or the outcome is unknown.
        """
        detail = f"it was delivered {entry.deliveries} times, and no worker lived to answer it"
        dead: list[Argument] = [*fields, *self._epitaph(MAX_DELIVERIES, detail, entry.deliveries, entry.origin)]
        address = Address.read(entry.raw, entry.origin.id, self._config.max_metadata_bytes)
        answer = Answer.of(NOBODY, Result(address, entry.origin, _error(detail)))
        answer.route(self._router)
        answer_fields = _flat({name: wire(value) for name, value in answer.fields(self._worker).items()})
        at_once = self._at_once if len(dead) < _MOST_ARGUMENTS else self._in_turn
        try:
            done = await at_once(link, entry.origin.id, dead, answer.stream, answer_fields)
        except ClusterCrossSlotError:
            done = await self._in_turn(link, entry.origin.id, dead, answer.stream, answer_fields)
        self.buried += done
        return done

    async def keep(self, connection: Connection, answer: Answer, reason: str) -> str:
        """Keep a task whose answer is refused by every stream; its source may then acknowledge it.

        Returns:
            The id of the entry in the dead letter; empty if another worker has settled the task meanwhile.

        Raises:
            RedisError: the task is not kept, or the outcome is unknown.
        """
        origin, config = answer.result.origin, self._config
        if origin.kind != "stream":
            return await self._add(connection, self._payload(answer), self._epitaph(ANSWER_REFUSED, reason, 1, origin))
        pending = await connection.call("XPENDING", config.tasks, config.group, origin.id, origin.id, 1)
        if not pending:
            return ""
        found = await connection.call("XRANGE", config.tasks, origin.id, origin.id)
        fields = found[0][1] if found else self._payload(answer)
        kept = await self._add(connection, fields, self._epitaph(ANSWER_REFUSED, reason, pending[0][3], origin))
        await connection.call("XACK", config.tasks, config.group, origin.id)
        await connection.call("XDEL", config.tasks, origin.id)
        return kept

    async def _add(self, connection: Connection, fields: Sequence[Argument], epitaph: Sequence[Argument]) -> str:
        entry_id: bytes = await connection.call("XADD", self._config.dead_letter, "*", *fields, *epitaph)
        self.buried += 1
        return entry_id.decode()

    @staticmethod
    def _payload(answer: Answer) -> list[Argument]:
        task = answer.job.task_object()
        return [PAYLOAD, wire(json_text.dumps(task))]

    async def _at_once(
        self, link: Link, entry_id: str, dead: list[Argument], stream: str, answer: list[Argument]
    ) -> bool:
        config = self._config
        keys: list[Argument] = [config.tasks, config.dead_letter, wire(stream), config.results]
        head: list[Argument] = [config.group, self._worker, entry_id, config.trim_maxlen, len(dead)]
        return bool(await link.run(SCRIPT, keys, [*head, *dead, *answer]))

    async def _in_turn(
        self, link: Link, entry_id: str, dead: list[Argument], stream: str, answer: list[Argument]
    ) -> bool:
        """Do the script's steps one by one, for streams in different cluster slots or thousands of fields."""
        config = self._config
        pending = await link.call("XPENDING", config.tasks, config.group, entry_id, entry_id, 1)
        if not pending or pending[0][1].decode() != self._worker:
            return False
        await link.call("XADD", config.dead_letter, "*", *dead)
        await link.pipeline([["XADD", wire(stream), "*", *answer]])
        await link.call("XACK", config.tasks, config.group, entry_id)
        await link.call("XDEL", config.tasks, entry_id)
        return True

    def _epitaph(self, reason: str, detail: str, deliveries: int, origin: Origin) -> list[Argument]:
        said: dict[str, Argument] = {
            "dead_reason": reason,
            "dead_detail": wire(detail),
            "deliveries": deliveries,
            "original_stream": self._config.tasks if origin.kind == "stream" else origin.kind,
            "original_id": wire(origin.id),
            "dead_at": int(time.time() * 1000),
        }
        return _flat(said)


def _flat(fields: Mapping[str, Argument]) -> list[Argument]:
    flat: list[Argument] = []
    for name, value in fields.items():
        flat += (name, value)
    return flat


def _error(detail: str) -> TaskError:
    return TaskError("dead_letter", f"{detail}; it is in the dead letter, from where it can be requeued")
