"""Clients that each ask for one text's vector after another, over a connection of their own."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

PATH = "/v1/embeddings"


@dataclass
class Run:
    """The clients' measurements."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Texts per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """A latency in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def vectors(port: int, model: str, texts: Sequence[str]) -> list[list[float]]:
    """The vectors of some texts, one request each."""

    async def ask() -> list[list[float]]:
        connection = await Connection.open(port)
        found = [json.loads(await connection.ask(request(model, text)))["data"][0]["embedding"] for text in texts]
        connection.close()
        return found

    return asyncio.run(ask())


def run(port: int, model: str, texts: Sequence[str], clients: int, warm_s: float, seconds: float) -> Run:
    """Ask for `warm_s` seconds, then for `seconds` more; the answers that come in these count."""
    return asyncio.run(_run(port, model, texts, clients, warm_s, seconds))


async def _run(port: int, model: str, texts: Sequence[str], clients: int, warm_s: float, seconds: float) -> Run:
    found, numbers = Run(seconds), count()
    requests = [request(model, text) for text in texts]
    since = time.perf_counter() + warm_s
    until = since + seconds

    async def client() -> None:
        connection = await Connection.open(port)
        while (began := time.perf_counter()) < until:
            await connection.ask(requests[next(numbers) % len(requests)])
            ended = time.perf_counter()
            if since <= ended < until:
                found.latencies.append(ended - began)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return found


def request(model: str, text: str) -> bytes:
    """One request as it goes over the wire."""
    body = json.dumps({"model": model, "input": [text]}).encode()
    lines = (
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


class Connection:
    """A kept connection that reads no more of an answer than it must: the clients share the cores with the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, message: bytes) -> bytes:
        """Send a request and return the answer's body."""
        self._writer.write(message)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head + await self._reader.read(500)
        lower = head.lower()
        start = lower.index(b"content-length:") + 15
        return await self._reader.readexactly(int(lower[start : lower.index(b"\r\n", start)]))

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()
