"""Remote-control commands for workers under measurement: `celery worker -I benchmarks.probe`."""

from __future__ import annotations

from typing import Any

from celery.worker.control import inspect_command

from legit_embedding import process


@inspect_command()
def unwritten(state: Any) -> dict[str, int]:  # noqa: ANN401, ARG001 - Celery's signature
    """The number of answers that are not confirmed yet, and of the commits that carry them to Redis."""
    stats = process.current().writer.stats()
    return {"answers": stats.pending, "commits": stats.in_flight}


def ask(control: Any, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - the command decides
    """The answer of the only worker there is."""
    replies = control.inspect(timeout=10, limit=1)._request(command, **arguments)  # noqa: SLF001
    assert replies, f"no worker answered {command!r}"
    return next(iter(replies.values()))
