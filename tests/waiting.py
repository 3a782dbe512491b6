"""Waiting for a condition; no test depends on the length of a sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float, what: str, *, interval: float = 0.02) -> T:
    """Poll `condition` until it returns something true, and return that.

    Raises:
        AssertionError: it stayed false for `timeout` seconds; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            message = f"waited {timeout:g} s in vain for {what}; last seen: {outcome!r}"
            raise AssertionError(message)
        time.sleep(interval)
