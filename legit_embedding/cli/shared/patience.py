"""Tells a person who waits for answers why none come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from legit_embedding.cli.shared.terminal import counted, duration, rate
from legit_embedding.telemetry.fleet import look

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from legit_embedding.telemetry.fleet import Shown

AFTER_S = 10.0


class Patience:
    """Reports why no answer has come for a while; the same reason only once.

    Args:
        client: the Redis client.
        tasks: the task stream.
        say: prints a line.
    """

    def __init__(self, client: redis.Redis, tasks: str, say: Callable[[str], None]) -> None:
        self._client = client
        self._tasks = tasks
        self._say = say
        self._since = time.monotonic()
        self._kind = ""

    def answered(self) -> None:
        """Begin to wait anew."""
        self._since, self._kind = time.monotonic(), ""

    def waiting(self) -> None:
        """Look at the workers if the wait has been long."""
        waited = time.monotonic() - self._since
        if waited >= AFTER_S:
            kind, why = reason(self._client, self._tasks)
            if kind != self._kind:
                self._kind = kind
                self._say(f"no answer for {duration(waited)}: {why}")


def reason(client: redis.Redis, tasks: str) -> tuple[str, str]:
    """Explain why no worker answers.

    Returns:
        The kind of the reason, which stays the same while only figures change, and a sentence.
    """
    fleet = look(client)
    if not fleet.workers:
        lost = f"; {', '.join(fleet.lost)} died without signing off" if fleet.lost else ""
        return f"none{lost}", f"no worker is alive (embedding:workers){lost}"
    kind = "; ".join(f"{each.worker}: {each.state} {each.problem}" for each in fleet.workers)
    waiting = counted(int(client.xlen(tasks)), "entry", "entries")
    return kind, f"{tasks} holds {waiting}; {'; '.join(map(_described, fleet.workers))}"


def _described(worker: Shown) -> str:
    problem = f", {worker.problem}" if worker.problem else ""
    return f"{worker.worker} is {worker.state}{problem}, {worker.in_flight:,} in flight, {rate(worker.items_per_s)}"
