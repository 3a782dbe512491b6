"""infinity's engine in process: requests wait in its memory, and it batches those of like length."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from encoder import ROWS, content, encoded
from infinity_emb import AsyncEngineArray, EngineArgs
from pipe import answer, lists


async def main() -> None:
    """Embed each task as a request of its own."""
    arguments = EngineArgs(
        model_name_or_path=os.environ["PEER_MODEL"],
        engine="torch",
        device="cpu",
        dtype="float32",
        batch_size=ROWS,
        compile=False,
        bettertransformer=False,
        model_warmup=False,
    )
    engine = AsyncEngineArray.from_args([arguments])[0]

    async def embed(task: dict[str, Any]) -> None:
        if "text" in task:
            (vector,), _ = await engine.embed(sentences=[task["text"]])
        else:
            (vector,), _ = await engine.image_embed(images=[content(task)])
        answer(task, encoded(vector))

    async with engine, asyncio.TaskGroup() as group:
        incoming = lists()
        while tasks := await asyncio.to_thread(next, incoming, None):
            for task in tasks:
                group.create_task(embed(task))


if __name__ == "__main__":
    asyncio.run(main())
