"""A TCP proxy that stands between a client and a server, and gets in the way."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing, suppress
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.connections import Connections

if TYPE_CHECKING:
    from typing import Self

_CHUNK = 64 * 1024


class Proxy:
    """Passes bytes on, late and for a while.

    Args:
        url: the server behind.
        delay_s: how long every byte is under way, in each direction.
        cut_after: the mean number of bytes after which a connection is cut, in the middle of whatever it carries; each
            direction of each connection draws its own. 0 never cuts.
        cut_replies_after: the same for what the server sends, which is much less than what workers send to it; by
            default as `cut_after`.
        seed: for the draws.
    """

    def __init__(
        self, url: str, *, delay_s: float = 0.0, cut_after: int = 0, cut_replies_after: int | None = None, seed: int = 0
    ) -> None:
        target = urlsplit(url)
        self._host, self._port, self._path = target.hostname, target.port, target.path
        self._delay_s = delay_s
        self.cut_after = cut_after
        self.cut_replies_after = cut_after if cut_replies_after is None else cut_replies_after
        self.cuts = 0
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._connections = Connections(self._serve)
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._connections.end(self._server), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Cut every connection, and lose all that is under way."""
        asyncio.run_coroutine_threadsafe(self._connections.cut(), self._loop).result(10)

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._connections.accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{port}{self._path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            with closing(up_writer.transport):
                tasks = {asyncio.ensure_future(self._pass(reader, up_writer, self.cut_after))}
                tasks.add(asyncio.ensure_future(self._pass(up_reader, writer, self.cut_replies_after)))
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    writer.transport.abort()
                    up_writer.transport.abort()
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut_after: int) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.ensure_future(self._send(queue, writer))
        left = self._random.expovariate(1 / cut_after) if cut_after else float("inf")
        try:
            while left > 0 and (chunk := await reader.read(_CHUNK)):
                part = chunk if len(chunk) < left else chunk[: int(left)]
                left -= len(chunk)
                queue.put_nowait((self._loop.time() + self._delay_s, part))
            self.cuts += left <= 0
            queue.put_nowait((self._loop.time() + self._delay_s, b""))
            await sender
        finally:
            sender.cancel()

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()
