"""Snapshot of the streams."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from legit_embedding.redis_io.entries import FIRST, age, order

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from legit_embedding.config import StreamConfig

SCRIPT = files(__package__).joinpath("glance.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Consumer:
    """One member of the consumer group."""

    name: str
    pending: int
    idle_s: float
    """Seconds since its last interaction with the server."""


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group of the task stream."""

    name: str
    pending: int
    lag: int | None
    """Unread entries; None if the server cannot tell."""
    oldest: str | None
    """The id of the first unfinished entry."""
    consumers: tuple[Consumer, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One stream at one moment."""

    stream: str
    at: float
    """The server's clock, in Unix seconds."""
    length: int
    added: int | None
    """Entries ever added; None if the server does not count them."""
    oldest: str | None
    newest: str | None
    group: Group | None = None

    @property
    def backlog(self) -> int | None:
        """Return the number of unfinished entries, read or unread; None if the server cannot tell.

        An entry that was deleted while it was pending is none; so there are never more than the stream has.
        """
        if self.group is None:
            return self.length
        return None if self.group.lag is None else min(self.length, self.group.lag + self.group.pending)

    def age(self, entry_id: str | None) -> float | None:
        """Return the age of an entry in seconds."""
        return age(entry_id, self.at)


@dataclass(frozen=True, slots=True)
class Glance:
    """Every stream at one moment."""

    tasks: Look
    dead_letter: Look
    results: tuple[Look, ...]


def glance(client: redis.Redis, config: StreamConfig, results: Sequence[str]) -> Glance:
    """Take a snapshot of every stream in one round trip."""
    with client.pipeline(transaction=False) as pipeline:
        for stream, group in ((config.tasks, config.group), *((each, "") for each in (config.dead_letter, *results))):
            pipeline.execute_command("EVAL", SCRIPT, 1, stream, group)  # a cluster's pipeline has no `eval`
        replies = [json.loads(reply.decode("utf-8", "replace")) for reply in pipeline.execute()]
    tasks, dead_letter, *others = replies
    return Glance(
        tasks=_look(config.tasks, tasks, _group(config, tasks)),
        dead_letter=_look(config.dead_letter, dead_letter),
        results=tuple(_look(stream, reply) for stream, reply in zip(results, others, strict=True)),
    )


def result_streams(config: StreamConfig, more: Sequence[str] = ()) -> list[str]:
    """Return the result streams named in the settings; those that only match an allow-list pattern are unknown."""
    literal = [pattern for pattern in config.reply_to_allow if not set(pattern) & set("*?[")]
    return list(dict.fromkeys([config.results, *config.routes.values(), *literal, *more]))


def _look(stream: str, reply: dict[str, Any], group: Group | None = None) -> Look:
    newest = reply.get("newest")
    return Look(
        stream=stream,
        at=float(reply["now"]),
        length=reply["length"],
        added=_number(reply.get("added")) if "newest" in reply else 0,
        oldest=reply.get("oldest") or None,
        newest=None if newest in {None, FIRST} else newest,
        group=group,
    )


def _group(config: StreamConfig, reply: dict[str, Any]) -> Group | None:
    state = reply.get("group")
    if not state:
        return None
    lag = _number(state.get("lag"))
    if lag is None and config.delete_on_ack:
        # Finished entries are deleted, so the stream holds only pending and unread ones.
        lag = max(0, reply["length"] - state["pending"])
    unfinished = [entry for entry in (state.get("waiting"), state.get("unfinished")) if entry]
    consumers = [Consumer(each["name"], each["pending"], each["idle_ms"] / 1000) for each in state["consumers"]]
    return Group(
        name=config.group,
        pending=state["pending"],
        lag=lag,
        oldest=min(unfinished, key=order, default=None),
        consumers=tuple(sorted(consumers, key=lambda each: (-each.pending, each.name))),
    )


def _number(value: object) -> int | None:
    """Convert a number from Lua, which has no null: an unknown value is false or missing."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
