"""The checks of ``legit-embedding doctor``, one function per check, grouped by subject into modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from legit_embedding.errors import in_one_line
from legit_embedding.migration.checks import broker, device, directories, keys, models, server, workers
from legit_embedding.migration.checks.finding import fail, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

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


def examine(deployment: Deployment, only: Collection[str] = ()) -> Iterator[tuple[str, Finding]]:
    """Run the checks in order. An unavailable server yields one finding instead of one per check that needs it.

    Args:
        deployment: the deployment to check.
        only: the names of the checks to run; all of them if empty.
    """
    yield from _each(_chosen(LOCAL, only), deployment)
    for name, reach, checks in (
        ("Redis", deployment.reach_redis, ON_REDIS),
        ("broker", deployment.reach_broker, ON_BROKER),
    ):
        chosen = _chosen(checks, only)
        if chosen:
            answer = _reach(name, reach)
            yield name, answer
            yield from _each(chosen if answer.level == "ok" else {}, deployment)


def _chosen(checks: dict[str, Check], only: Collection[str]) -> dict[str, Check]:
    return {name: check for name, check in checks.items() if not only or name in only}


def _each(checks: dict[str, Check], deployment: Deployment) -> Iterator[tuple[str, Finding]]:
    for name, check in checks.items():
        yield name, _safely(check, deployment)


def _safely(check: Check, deployment: Deployment) -> Finding:
    """Run a check; an exception becomes a failed finding."""
    try:
        return check(deployment)
    except RedisError as error:
        return fail(f"Redis: {error}", "mend the connection, or the user's permissions, and run doctor again")
    except Exception as error:  # noqa: BLE001 - one broken check must not stop the others
        return fail(f"the check itself failed: {in_one_line(error)}", "see what the error says")


def _reach(what: str, reach: Callable[[], str]) -> Finding:
    try:
        return ok(f"{reach()} answers")
    except Exception as error:  # noqa: BLE001 - every broker's library has errors of its own
        text = in_one_line(error, named=False)
        return fail(f"{what} does not answer: {text}", "its other checks were left out; run doctor again then")


__all__ = ["LOCAL", "ON_BROKER", "ON_REDIS", "examine"]
