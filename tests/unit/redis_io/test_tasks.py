from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from legit_embedding.redis_io.tasks import end, run_until


async def stubborn(times: int) -> None:
    """Loses so many cancellations."""
    for _ in range(times):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
    await asyncio.sleep(60)


def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    async def main() -> bool:
        task = asyncio.create_task(stubborn(2))
        await asyncio.sleep(0)
        await end([task])
        return task.cancelled()

    assert asyncio.run(asyncio.wait_for(main(), 10))


def test_the_signal_ends_the_tasks_and_an_early_end_does_not() -> None:
    async def main() -> list[bool]:
        signal = asyncio.Event()
        tasks = [asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(stubborn(1))]
        asyncio.get_running_loop().call_later(0.05, signal.set)
        await run_until(signal, tasks)
        return [task.cancelled() for task in tasks]

    assert asyncio.run(asyncio.wait_for(main(), 10)) == [False, True]


def test_a_failure_ends_the_others_and_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    async def main() -> None:
        other = asyncio.create_task(stubborn(0))
        try:
            await run_until(asyncio.Event(), [other, asyncio.create_task(fail())])
        finally:
            assert other.cancelled()

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(asyncio.wait_for(main(), 10))
