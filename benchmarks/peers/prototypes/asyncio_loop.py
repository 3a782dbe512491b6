"""A bare asyncio loop: one batch at a time in a thread, of whatever waits, while answers are written."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge import serve
from encoder import load

BATCH = 128


async def main() -> None:
    """Batch for ever."""
    model = load()
    waiting: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[str]]] = asyncio.Queue()

    async def embed(task: dict[str, Any]) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting.put_nowait((task, future))
        return await future

    async def compute() -> None:
        while True:
            batch = [await waiting.get()]
            while len(batch) < BATCH and not waiting.empty():
                batch.append(waiting.get_nowait())
            vectors = await asyncio.to_thread(model, [task for task, _ in batch])
            for (_, future), vector in zip(batch, vectors, strict=True):
                future.set_result(vector)

    await asyncio.gather(compute(), serve(embed))


if __name__ == "__main__":
    asyncio.run(main())
