"""Replacements for Celery's remote commands where this pool must do more, or can do less."""

from __future__ import annotations

from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import control, state
from celery.worker.control import Panel, nok

from legit_embedding import process
from legit_embedding.control.batching import batching
from legit_embedding.control.checked import CHECKS, checked
from legit_embedding.pool.request import EmbeddingRequest


def revoke(worker: Any, task_id: str | list[str], terminate: bool = False, signal: str | None = None, **_: Any) -> Any:  # noqa: ANN401 - Celery's signature
    """Revoke tasks: those that wait for the device are withdrawn, and no thread is killed."""
    ids = set(maybe_list(task_id) or [])
    signum = control._signals.signum(signal or "TERM") if terminate else None  # noqa: SLF001
    reply = control.revoke(worker, list(ids), terminate=False)
    requests = [request for request in list(state.requests.values()) if request.id in ids]
    for request in requests:
        if isinstance(request, EmbeddingRequest):
            request.withdraw(signum)
    running = [r.id for r in requests if r in state.active_requests and not isinstance(r, EmbeddingRequest)]
    if terminate and running:
        return nok(f"running on a thread, which cannot be killed: {', '.join(running)}")
    return reply


def ping(worker: Any, **_: Any) -> Any:  # noqa: ANN401
    """Reply with Celery's ``pong`` if the worker is healthy, and with the fault otherwise."""
    presence = process.heartbeat()
    state, problems = presence.state() if presence is not None else ("running", [])
    return nok(f"unhealthy: {'; '.join(problems)}") if state == "unhealthy" else control.ping(worker)


def terminate(worker: Any, signal: str, task_id: str | list[str], **_: Any) -> Any:  # noqa: ANN401
    """Revoke tasks with ``terminate``."""
    return revoke(worker, task_id, terminate=True, signal=signal)


OURS: dict[str, Any] = {"revoke": revoke, "terminate": terminate, "ping": ping, "batching": batching}


def register() -> None:
    """Replace Celery's commands, and add checks to all commands that change something.

    To be called on a worker with this pool.
    """
    Panel.data |= {name: getattr(control, name) for name in CHECKS} | OURS
    for command, checks in CHECKS.items():
        Panel.data[command] = checked(Panel.data[command], checks)
