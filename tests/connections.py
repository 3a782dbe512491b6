"""The connections of a server in a test, which end when it says so and leave nothing open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Connections:
    """Serves each connection of `asyncio.start_server` with a task; for one event loop that does nothing else.

    Args:
        serve: serves one connection, which is aborted when it returns.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; for `asyncio.start_server`."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        # A task that is cut before its first step runs none of its own code.
        task.add_done_callback(lambda _: writer.transport.abort())
        task.add_done_callback(self._tasks.discard)

    async def cut(self) -> None:
        """Break off every connection, at whatever it is."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def end(self, server: asyncio.Server) -> None:
        """Accept no more, and break off every connection."""
        loop = asyncio.get_running_loop()
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        # A task of the event loop's own may be accepting one; cancelled, or after the server is closed, it would leave
        # that open.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await self.cut()
            await asyncio.wait(others)
        server.close()
        await asyncio.sleep(0)  # an aborted connection is closed in the next turn
