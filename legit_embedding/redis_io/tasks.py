"""Reliable termination of asyncio tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_AGAIN_S = 0.25


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks repeatedly until they are done.

    One cancellation is not enough: `asyncio.wait_for` in Python 3.11, which redis-py uses to send, loses a cancellation
    that arrives at the moment in which it succeeds.
    """
    going = {task for task in tasks if not task.done()}
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=_AGAIN_S)


async def run_until(signal: asyncio.Event, tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for the signal, then end the tasks. If one fails, the others are ended and its error is raised."""
    signalled = asyncio.create_task(signal.wait())
    everyone = {signalled, *tasks}
    going = everyone
    try:
        while not signalled.done():
            done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        await end(everyone)
