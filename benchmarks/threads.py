"""A remote-control command for workers under measurement: `celery worker -I benchmarks.threads`."""

from __future__ import annotations

import threading
from typing import Any

from celery.worker.control import inspect_command


@inspect_command()
def thread_names(state: Any) -> dict[str, str]:  # noqa: ANN401, ARG001 - Celery's signature
    """The names that Python knows of the process's threads, by their ids in the system."""
    return {str(thread.native_id): thread.name for thread in threading.enumerate()}
