"""A server of remote models that does whatever a test asks, in a thread of its own and on a port of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from legit_embedding.models.null import expected
from tests.connections import Connections
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from numpy.typing import NDArray

DIM = 8
PATHS = {"http": "/embed", "openai": "/v1/embeddings", "ollama": "/api/embed"}


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]
    fields: Mapping[str, Any]
    body: bytes = b""

    @property
    def items(self) -> list[str]:
        """What is to be embedded."""
        names = ("images", "texts", "input")
        return next(self.fields[name] for name in names if self.fields.get(name))

    @property
    def is_probe(self) -> bool:
        """Whether it only finds out whether the remote works."""
        return self.items == ["probe"]


@dataclass
class Reply:
    """An answer and how it is sent."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    cut: int | None = None
    """How many bytes of the body are sent before the connection is closed."""
    gate: threading.Event | None = None
    """What the answer waits for."""
    drip_s: float = 0.0
    """The pause after each byte."""
    delay_s: float = 0.0
    """The pause before the answer."""


def vector(item: str) -> NDArray[np.float32]:
    """The vector of an item, of length 1."""
    return expected(item, DIM)


def answer(backend: str, request: Request, vectors: list[Any] | None = None) -> dict[str, Any]:
    """The right answer of this kind of server, or the same with other vectors."""
    rows = [vector(item).tolist() for item in request.items] if vectors is None else vectors
    if backend == "http":
        return {"model": "remote", "dimension": DIM, "count": len(rows), "dense_vecs": rows}
    if backend == "ollama":
        return {"model": "remote", "embeddings": rows}
    if vectors is None and request.fields.get("encoding_format") == "base64":
        rows = [base64.b64encode(np.array(row, "<f4").tobytes()).decode() for row in rows]
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    return {"object": "list", "data": data, "model": "remote", "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def as_json(content: Any, status: int = 200, **headers: str) -> Reply:
    """A reply that holds JSON; what JSON cannot say becomes NaN and Infinity."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(content).encode(), status, {"content-type": "application/json"} | named)


class Remote:
    """The server. As a context manager it runs; `kill` and `start` end it and start it again on its port."""

    def __init__(self, backend: str = "http") -> None:
        self.backend = backend
        self.requests: list[Request] = []
        self.misbehave: Callable[[Request], Reply | None] = lambda request: None
        """Returns the reply to a request; None for the right one."""
        self.most_at_once = 0
        self.port = free_port()
        self._at_once = 0
        self._thread: threading.Thread | None = None

    _loop: asyncio.AbstractEventLoop
    _ending: asyncio.Event

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def embedded(self) -> list[str]:
        """The items of all requests but probes."""
        return [item for request in list(self.requests) if not request.is_probe for item in request.items]

    def start(self) -> None:
        """Listen, on the same port each time."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def kill(self) -> None:
        """End at once: connections break off."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(20)
            self._thread = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        connections = Connections(self._connected)
        server = await asyncio.start_server(connections.accept, "127.0.0.1", self.port)
        ready.set()
        await self._ending.wait()
        await connections.end(server)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        request = Request(head[0].split()[1], headers, json.loads(body), body)
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = await self._reply(request)
            await asyncio.sleep(reply.delay_s)
            while reply.gate is not None and not reply.gate.is_set():
                await asyncio.sleep(0.01)
        finally:
            self._at_once -= 1
        return await self._send(reply, writer)

    async def _reply(self, request: Request) -> Reply:
        return self.misbehave(request) or as_json(answer(self.backend, request))

    @staticmethod
    async def _send(reply: Reply, writer: asyncio.StreamWriter) -> bool:
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in reply.headers.items())]
        lines += [f"content-length: {len(reply.body)}", "", ""]
        writer.write("\r\n".join(lines).encode())
        step = 1 if reply.drip_s else len(reply.body) or 1
        sent = reply.body[: reply.cut]
        for start in range(0, len(sent), step):
            writer.write(sent[start : start + step])
            await writer.drain()
            await asyncio.sleep(reply.drip_s)
        await writer.drain()
        return reply.cut is None
