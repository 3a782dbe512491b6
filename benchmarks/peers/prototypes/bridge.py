"""From the task stream to the result stream, around anything that can be awaited for one vector.

Written as Redis' documentation of consumer groups advises: read what this consumer left unacknowledged, then what is
new; write an answer and acknowledge its task in one transaction.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TASKS, GROUP, RESULTS, CONSUMER = "embedding_tasks", "embedding_workers", "embedding_results", "bridge"
IN_FLIGHT = 512


async def serve(embed: Callable[[dict[str, Any]], Awaitable[str]]) -> None:
    """Answer tasks for ever, at most `IN_FLIGHT` of them at a time."""
    pool = BlockingConnectionPool.from_url(
        os.environ["PEER_REDIS_URL"], decode_responses=True, max_connections=8, timeout=None
    )
    client = Redis.from_pool(pool)
    try:
        await client.xgroup_create(TASKS, GROUP, "0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    room, answering = asyncio.Semaphore(IN_FLIGHT), set()

    async def answer(entry: str, task: dict[str, Any]) -> None:
        try:
            vector = await embed(task)
            async with client.pipeline(transaction=True) as pipe:
                pipe.xadd(RESULTS, {"task_id": task["task_id"], "status": "ok", "embedding": vector})
                pipe.xack(TASKS, GROUP, entry)
                pipe.xdel(TASKS, entry)
                await pipe.execute()
        finally:
            room.release()

    since = "0"
    while True:
        read = await client.xreadgroup(GROUP, CONSUMER, {TASKS: since}, count=64, block=1000)
        entries = read[0][1] if read else []
        if since != ">":
            since = entries[-1][0] if entries else ">"
        for entry, task in entries:
            await room.acquire()
            running = asyncio.create_task(answer(entry, task))
            answering.add(running)
            running.add_done_callback(answering.discard)
