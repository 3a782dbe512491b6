"""A remote-control command for workers under measurement: `celery worker -I benchmarks.copies`."""

from __future__ import annotations

import gc
from typing import Any

from celery.worker.control import inspect_command


@inspect_command(args=[("class_name", str)])
def instances(state: Any, class_name: str) -> int:  # noqa: ANN401, ARG001 - Celery's signature
    """The number of a class's objects, by its name, that live in the worker's process."""
    gc.unfreeze()  # what was there when the worker started
    return sum(type(each).__name__ == class_name for each in gc.get_objects())
