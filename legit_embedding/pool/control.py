"""Celery's remote commands, where this pool has more to do, or can do less, than Celery's own."""

from __future__ import annotations

from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import control, state
from celery.worker.control import Panel, nok

from legit_embedding import runtime
from legit_embedding.pool.batching import batching
from legit_embedding.pool.request import EmbeddingRequest


def revoke(worker: Any, task_id: str | list[str], terminate: bool = False, signal: str | None = None, **_: Any) -> Any:  # noqa: ANN401 - Celery's signature
    """Revoke tasks: those that wait for the device are withdrawn, and a thread is not killed."""
    ids = set(maybe_list(task_id) or [])
    reply = control.revoke(worker, list(ids), terminate=False)
    requests = [request for request in list(state.requests.values()) if request.id in ids]
    for request in requests:
        if isinstance(request, EmbeddingRequest):
            request.withdraw(control._signals.signum(signal or "TERM") if terminate else None)  # noqa: SLF001
    running = [r.id for r in requests if r in state.active_requests and not isinstance(r, EmbeddingRequest)]
    if terminate and running:
        return nok(f"running on a thread, which cannot be killed: {', '.join(running)}")
    return reply


def ping(worker: Any, **_: Any) -> Any:  # noqa: ANN401
    """Celery's own ``pong`` from a worker that is well, and what is wrong from one that is not."""
    presence = runtime.presence()
    state, problems = presence.state() if presence is not None else ("running", [])
    return nok(f"unhealthy: {'; '.join(problems)}") if state == "unhealthy" else control.ping(worker)


def register() -> None:
    """Put our commands in the place of Celery's, for a worker with this pool."""
    Panel.data |= {"revoke": revoke, "ping": ping, "batching": batching}
