"""Redis keys that no answer may be written to, regardless of the allow-list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_OTHERS = ("unacked", "_kombu", "celery-task-meta-", "celery-taskset-meta-")
"""Prefixes of the keys of kombu's transport and of Celery's result backend."""
_OURS = ("embedding:worker", "embedding:claim:", "embedding:stats:", "embedding:written:", "embedding:migration")
_NAMESPACE = "embedding:"

_PRIORITY = re.compile(r"\W{1,8}\d+")
"""The suffix of a queue's lists for other priorities in kombu: a separator and a number."""

_queues: set[str] = set()


def reserve_queues(names: Iterable[str]) -> None:
    """Reserve the lists of these queues; to be called before the first task is accepted."""
    _queues.update(names)


def is_reserved(key: str, but: Collection[str] = ()) -> bool:
    """True if Celery, kombu or this worker uses the key, or may come to use it.

    Args:
        key: the key.
        but: exceptions: keys in the worker's namespace that an operator has chosen.
    """
    if key.startswith((*_OTHERS, *_OURS)) or key in _queues:
        return True
    if any(key.startswith(queue) and _PRIORITY.fullmatch(key, len(queue)) for queue in _queues):
        return True
    return key.startswith(_NAMESPACE) and key not in but
