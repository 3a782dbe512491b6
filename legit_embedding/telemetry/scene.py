"""All workers of one Redis server at one moment, and the work that waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from legit_embedding.telemetry.fleet import look
from legit_embedding.telemetry.glance import glance

if TYPE_CHECKING:
    from collections.abc import Collection

    import redis

    from legit_embedding.config import Settings
    from legit_embedding.telemetry.fleet import Fleet, Shown


@dataclass(frozen=True, slots=True)
class Scene:
    """State of all workers at one moment; the field names are the keys of ``legit-embedding top --json``."""

    server: str
    at: float
    items_per_s: float
    waiting: int
    """Tasks that no worker has taken yet."""
    in_flight: int
    empty_in_s: float | None
    oldest_s: float | None
    """Age of the oldest unfinished entry of the task stream, in seconds; None if there is none."""
    workers: tuple[Shown, ...]
    lost: tuple[str, ...]


def observe(client: redis.Redis, settings: Settings, queues: Collection[str], names: Collection[str] = ()) -> Scene:
    """Read the state of the workers and the length of what waits for them.

    Args:
        client: the server of the streams.
        settings: name the task stream and its group.
        queues: the Celery queues that count as waiting, where the server is the broker too.
        names: only these workers; empty for all.

    Raises:
        RedisError: the server is unavailable.
    """
    fleet = _only(look(client), names)
    tasks = glance(client, settings.streams, []).tasks
    lag = tasks.length if tasks.group is None else (tasks.group.lag or 0)
    waiting = lag + sum(int(client.llen(queue)) for queue in queues)
    in_flight = sum(worker.in_flight for worker in fleet.workers)
    speed = sum(worker.items_per_s for worker in fleet.workers)
    oldest = tasks.age(tasks.group.oldest if tasks.group is not None else tasks.oldest)
    return Scene(
        server=settings.redis.public,
        at=fleet.at,
        items_per_s=round(speed, 2),
        waiting=waiting,
        in_flight=in_flight,
        empty_in_s=seconds_left(waiting + in_flight, speed),
        oldest_s=round(oldest, 1) if oldest is not None else None,
        workers=fleet.workers,
        lost=fleet.lost,
    )


def seconds_left(items: int, items_per_s: float) -> float | None:
    """Return the time until so many items are done at this rate; None for never."""
    return 0.0 if not items else round(items / items_per_s, 1) if items_per_s else None


def _only(fleet: Fleet, names: Collection[str]) -> Fleet:
    if not names:
        return fleet
    chosen = tuple(worker for worker in fleet.workers if worker.worker in names)
    missing = sorted(set(names) - {worker.worker for worker in fleet.workers})
    return type(fleet)(fleet.at, chosen, tuple(missing))
