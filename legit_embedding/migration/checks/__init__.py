"""What ``legit-embedding doctor`` looks at: one small function a check, one room a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from legit_embedding.migration.checks import broker, device, directories, keys, models, server, workers
from legit_embedding.migration.checks.finding import fail, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

    Check = Callable[[Deployment], Finding]

LOCAL: dict[str, Check] = {
    "settings": directories.settings,
    "image roots": directories.image_roots,
    "hand-offs": directories.handoffs,
    "model files": models.files,
    "device": device.memory,
    "contexts": device.contexts,
}
ON_REDIS: dict[str, Check] = {
    "Redis version": server.version,
    "persistence": server.persistence,
    "eviction": server.eviction,
    "clock": server.clock,
    "key prefix": keys.prefix,
    "allow-list": keys.allow_list,
}
ON_BROKER: dict[str, Check] = {
    "visibility timeout": broker.visibility,
    "result backend": broker.results,
    "task names": workers.task_names,
    "queues": workers.queues,
}


def examine(deployment: Deployment) -> Iterator[tuple[str, Finding]]:
    """Do all the checks, in order; what needs a server that is away is one finding, not ten."""
    yield from _each(LOCAL, deployment)
    away = _reach("Redis", deployment.reach_redis)
    yield "Redis", away or ok(f"{deployment.server} answers")
    if away is None:
        yield from _each(ON_REDIS, deployment)
    away = _reach("broker", deployment.reach_broker)
    yield "broker", away or ok(f"{deployment.broker} answers")
    if away is None:
        yield from _each(ON_BROKER, deployment)


def _each(checks: dict[str, Check], deployment: Deployment) -> Iterator[tuple[str, Finding]]:
    for name, check in checks.items():
        yield name, _safely(check, deployment)


def _safely(check: Check, deployment: Deployment) -> Finding:
    """A check that cannot be done is a finding too."""
    try:
        return check(deployment)
    except RedisError as error:
        return fail(f"Redis: {error}", "mend the connection, or the user's permissions, and run doctor again")
    except Exception as error:  # noqa: BLE001 - one check must not take the others along
        return fail(f"the check itself failed: {type(error).__name__}: {error}", "see what the error says")


def _reach(what: str, reach: Callable[[], None]) -> Finding | None:
    try:
        reach()
    except Exception as error:  # noqa: BLE001 - every broker's library has errors of its own
        text = " ".join(str(error).split()) or type(error).__name__
        return fail(f"the {what} does not answer: {text}", "its other checks were left out; run doctor again then")
    return None


__all__ = ["LOCAL", "ON_BROKER", "ON_REDIS", "examine"]
