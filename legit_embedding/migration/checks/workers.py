"""Checks of the running workers: their registered tasks and their queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from legit_embedding.cli.shared.terminal import counted
from legit_embedding.migration.checks.finding import fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

_EMBEDDING_WORDS = ("prepare", "embed")
_SHOWN = 5


def task_names(deployment: Deployment) -> Finding:
    """Check that the new worker registers every task of the old workers under the same name."""
    if not deployment.registered:
        return warn("no worker answers, so their task names are not known", "run doctor while the old fleet is up")
    unknown = _unknown_names(deployment)
    embedding = sorted(name for name in unknown if name.rpartition(".")[2].startswith(_EMBEDDING_WORDS))
    if embedding:
        todo = "map them under task_names in the settings (or ignore them, if nobody sends them)"
        return fail(f"the old workers know tasks that the new one does not: {_some(embedding)}", todo)
    if unknown:
        todo = "import their modules in the new worker (`imports` in the profile), or keep a worker for them"
        return warn(f"ordinary tasks that only the old workers know: {_some(sorted(unknown))}", todo)
    known = counted(len(deployment.registered), "worker answers, and knows", "workers answer, and know")
    return ok(f"{known} no task that the new one does not")


def queues(deployment: Deployment) -> Finding:
    """Check that no messages wait in a queue that no worker consumes."""
    consumed = {queue for names in deployment.consumed.values() for queue in names}
    waiting = _waiting(deployment, consumed)
    if waiting:
        first = waiting[0].partition(" ")[0]
        todo = f"start a worker for each, or: celery -A legit_embedding control -d NODE add_consumer {first}"
        return fail(f"tasks wait in queues that no worker consumes: {_some(waiting)}", todo)
    ours = deployment.app.conf.task_default_queue
    if ours not in consumed:
        todo = "start the new worker before anything is moved or copied to it"
        return warn(f"no worker consumes the queue {ours}", todo)
    return ok(f"every queue with tasks has a worker; {', '.join(sorted(consumed))}")


def _unknown_names(deployment: Deployment) -> set[str]:
    deployment.app.loader.import_default_modules()
    known = set(deployment.app.tasks)
    theirs = {entry.partition(" ")[0] for names in deployment.registered.values() for entry in names}
    return {name for name in theirs - known if not name.startswith("celery.")}


def _waiting(deployment: Deployment, consumed: set[str]) -> list[str]:
    """Return the unconsumed queues on the server with their lengths; a Celery queue is a list of messages."""
    return [
        f"{name} ({length:,})"
        for name in sorted(deployment.lists)
        if name not in consumed and _is_queue(deployment, name) and (length := deployment.redis.llen(name))
    ]


def _is_queue(deployment: Deployment, name: str) -> bool:
    message = cast("bytes | None", deployment.redis.lindex(name, -1))
    try:
        headers = json.loads(message or b"")["headers"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(headers, dict) and "task" in headers


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
