"""A proxy between a worker and a real server of vectors that spoils the answers on their way back."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.remotes import Remote, Reply, as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.remotes import Request

    Rows = list[list[float]]
    Way = Callable[[str, Reply], Reply]

OK = 200
ELSEWHERE = "/elsewhere"
"""Where redirects lead."""


class Spoiler(Remote):
    """Passes requests of one protocol on to a server, and spoils answers in one way; none at first.

    Args:
        backend: the protocol, ``http`` or ``openai``.
        upstream: the server's address.
    """

    def __init__(self, backend: str, upstream: str) -> None:
        super().__init__(backend)
        self._upstream = upstream
        self._way: Way | None = None
        self._every = 1
        self._answers = 0
        self.spoiled = 0

    def spoil(self, way: Way | None, every: int = 1) -> None:
        """Change the way of the answers that follow, and count `spoiled` from 0.

        Args:
            way: how they are spoiled; None for not at all.
            every: 1 spoils all of them; 2 every second one, and so on, but none to a probe.
        """
        self._way, self._every, self._answers, self.spoiled = way, every, 0, 0

    async def _reply(self, request: Request) -> Reply:
        reply = await asyncio.to_thread(self._forward, request)
        way = self._way
        if way is None or reply.status != OK or (request.is_probe and self._every > 1):
            return reply
        self._answers += 1
        if self._answers % self._every:
            return reply
        self.spoiled += 1
        return way(self.backend, reply)

    def _forward(self, request: Request) -> Reply:
        """Ask the server.

        Raises:
            OSError: it cannot be reached; the connection to the worker ends too.
        """
        headers = {name: request.headers[name] for name in ("authorization", "content-type")}
        try:
            # Closed by the server after the answer, so that none is left when the server is killed.
            with urllib.request.urlopen(
                urllib.request.Request(self._upstream + request.path, request.body, headers), timeout=60
            ) as response:
                return Reply(response.read(), response.status)
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.read(), error.code)


def with_rows(change: Callable[[Rows], Rows]) -> Way:
    """The answer with other vectors: in itself it is sound, with a count and a dimension that fit them."""

    def way(backend: str, reply: Reply) -> Reply:
        content = json.loads(reply.body)
        if backend == "http":
            rows = change(content["dense_vecs"])
            return as_json(content | {"dense_vecs": rows, "count": len(rows), "dimension": len(rows[0]) if rows else 0})
        rows = change([np.frombuffer(base64.b64decode(each["embedding"]), "<f4").tolist() for each in content["data"]])
        encoded = (base64.b64encode(np.array(row, "<f4").tobytes()).decode() for row in rows)
        data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(encoded)]
        return as_json(content | {"data": data})

    return way


def with_entries(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Way:
    """The answer with other entries, of OpenAI's protocol."""

    def way(backend: str, reply: Reply) -> Reply:
        assert backend == "openai"
        content = json.loads(reply.body)
        return as_json(content | {"data": change(content["data"])})

    return way


def instead(**reply: Any) -> Way:
    """Another answer altogether."""
    return lambda backend, right: Reply(**reply)


def delayed(seconds: float) -> Way:
    """The right answer, late."""

    def way(backend: str, reply: Reply) -> Reply:
        reply.delay_s = seconds
        return reply

    return way


def cut_in_half(backend: str, reply: Reply) -> Reply:
    """Half the answer's body; then the connection ends."""
    reply.cut = len(reply.body) // 2
    return reply
