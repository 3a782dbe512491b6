"""Counts the unfinished tasks in Redis, in a bounded number of round trips."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from legit_embedding.pipeline.backlog import Depth, TaskBacklog
from legit_embedding.telemetry import keys
from legit_embedding.telemetry.glance import glance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import redis

    from legit_embedding.config import StreamConfig
    from legit_embedding.telemetry.glance import Look

STALE_S = 30.0
"""The age at which a look says nothing about the present any more, in seconds."""


def look(client: redis.Redis, config: StreamConfig, count_queues: Callable[[], Sequence[Depth]]) -> TaskBacklog:
    """Count the task stream, if it is read, and the queues; three round trips, and those of `count_queues`.

    Raises:
        RedisError: a server is unavailable, or a key is something else than a stream.
    """
    seen = glance(client, config, [])
    streams = [_of_stream(seen.tasks)] if config.consume else []
    return TaskBacklog(
        at=time.monotonic(),
        depths=(*streams, *count_queues()),
        dead_letters=seen.dead_letter.length,
        items_per_s=_fleet_rate(client, seen.tasks.at),
    )


def count_queues(client: redis.Redis, queues: Mapping[str, Sequence[str]], unacknowledged: str) -> list[Depth]:
    """Count the messages of Celery queues, in one round trip.

    Args:
        client: a client of the broker.
        queues: the lists of each queue, one per priority.
        unacknowledged: the hash of the messages that workers hold. It says no queue that could be read without reading
            the messages, so it counts those of every queue of the broker.
    """
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hlen(unacknowledged)
        for lists in queues.values():
            for name in lists:
                pipeline.llen(name)
        held, *lengths = pipeline.execute()
    following = iter(lengths)
    waiting = {queue: sum(next(following) for _ in lists) for queue, lists in queues.items()}
    return [*(Depth(f"queue:{queue}", count) for queue, count in waiting.items()), Depth("unacknowledged", held)]


def _of_stream(seen: Look) -> Depth:
    group = seen.group
    unread = seen.length if group is None else group.lag
    age = seen.age(group.oldest if group is not None else seen.oldest)
    return Depth(f"stream:{seen.stream}", seen.backlog, unread, age)


def _fleet_rate(client: redis.Redis, now: float) -> float:
    names = cast("list[bytes]", client.zrangebyscore(keys.WORKERS, now - keys.EXPIRE_S, "+inf"))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hget(keys.worker(name.decode("utf-8", "replace")), "items_per_s")
        rates = pipeline.execute() if names else []
    return sum(float(rate) for rate in rates if rate)
