"""Validation of the arguments of remote commands, by type and range, before anything is changed."""

from __future__ import annotations

import math
from functools import wraps
from inspect import signature
from signal import Signals
from typing import TYPE_CHECKING, Any, TypeAlias

from celery.platforms import signals as platform_signals
from celery.utils.time import rate
from celery.worker.control import nok

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check: TypeAlias = Callable[[Any, Any], str | None]
    """The fault of a value, in words, to the worker's state of a command; None if there is none."""

MOST_THREADS = 1024
LONGEST_NAME = 255
LONGEST_S = 10 * 365 * 24 * 3600
EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")


def checked(command: Callable[..., Any], checks: Mapping[str, Check]) -> Callable[..., Any]:
    """Wrap a command so that it replies with the problem if an argument, given or default, fails its check."""
    parameters = signature(command).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}

    @wraps(command)
    def run(state: Any, **given: Any) -> Any:  # noqa: ANN401 - Celery's signature
        values = defaults | given
        for argument, check in checks.items():
            if argument in values and (problem := check(state, values[argument])) is not None:
                return nok(f"{argument}={_shown(values[argument])}: {problem}")
        return command(state, **given)

    return run


def more_threads(state: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check a number of threads to add: the pool must have room for them."""
    return _whole(value, 1, MOST_THREADS - state.consumer.pool.num_processes)


def fewer_threads(state: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check a number of threads to remove: one must remain."""
    most = state.consumer.pool.num_processes - 1
    return _whole(value, 1, most) if most else "the pool has one thread, and keeps it"


def threads(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check the lower bound of the autoscaler, which may be absent."""
    return None if value is None else _whole(value, 0, MOST_THREADS)


def some_threads(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check the upper bound of the autoscaler, which may be absent."""
    return None if value is None else _whole(value, 1, MOST_THREADS)


def seconds(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check a time limit, which may be absent."""
    if value is None or (_is_number(value) and 0 < value <= LONGEST_S):
        return None
    return f"a time limit is a number of seconds above 0, up to {LONGEST_S}, or none"


def rate_limit(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check a rate limit in Celery's notation, which may be absent."""
    good = value is None or isinstance(value, str) or _is_number(value)
    try:
        good = good and math.isfinite(each := rate(value)) and 0 <= each <= 1e9  # noqa: PLR2004 - tasks a second
    except (KeyError, ValueError):
        good = False
    return None if good else "a rate limit is like 10/s, 100/m or 5/h, or 0 for none"


def name(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check the name of a task or a queue."""
    good = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()
    return None if good else f"a name is printable text of 1 to {LONGEST_NAME} characters"


def name_or_none(state: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check a name that may be absent."""
    return None if value in (None, "") else name(state, value)


def exchange_type(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check an exchange type, which may be absent."""
    return (
        None
        if value in (None, "", *EXCHANGE_TYPES)
        else f"the type of an exchange is one of {', '.join(EXCHANGE_TYPES)}"
    )


def ids(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check the id of a task, or a list of ids."""
    listed = value if isinstance(value, list | tuple) else [value]
    good = all(isinstance(each, str) and each for each in listed)
    return None if good else "expected the id of a task, or a list of ids"


def headers(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check stamped headers: an object, or a list of KEY=VALUE."""
    good = isinstance(value, dict) or (
        isinstance(value, list | tuple) and all(isinstance(each, str) and "=" in each for each in value)
    )
    return None if good else "expected headers, as an object or as KEY=VALUE"


def signal(_: Any, value: Any) -> str | None:  # noqa: ANN401
    """Check the name or number of a signal, which may be absent."""
    try:
        good = value is None or bool(Signals(platform_signals.signum(value)))
    except (AttributeError, TypeError, ValueError):
        good = False
    return None if good else "there is no such signal"


def _whole(value: Any, least: int, most: int) -> str | None:  # noqa: ANN401
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return None
    return f"expected a whole number from {least} to {most}" if most >= least else "the pool has all its threads"


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."


CHECKS: dict[str, dict[str, Check]] = {
    "pool_grow": {"n": more_threads},
    "pool_shrink": {"n": fewer_threads},
    "autoscale": {"max": some_threads, "min": threads},
    "rate_limit": {"task_name": name, "rate_limit": rate_limit},
    "time_limit": {"task_name": name, "soft": seconds, "hard": seconds},
    "add_consumer": {
        "queue": name,
        "exchange": name_or_none,
        "exchange_type": exchange_type,
        "routing_key": name_or_none,
    },
    "cancel_consumer": {"queue": name},
    "revoke": {"task_id": ids, "signal": signal},
    "terminate": {"task_id": ids, "signal": signal},
    "revoke_by_stamped_headers": {"headers": headers, "signal": signal},
}
"""The check of each argument, for each command that changes something."""
