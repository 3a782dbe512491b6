"""A strict client of `POST /embed`, written from the contract alone (docs/reference/contract.md, section 7).

    client = EmbedClient("http://127.0.0.1:8000", dimension=384)
    vectors = client.embed(["a red bicycle", "ein rotes Fahrrad"])

It needs httpx and nothing else of this project, and may be copied.
"""

from __future__ import annotations

import json
import math
import random
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 64 * 1024 * 1024
"""The largest answer that is read."""
FLOAT32_MAX = 3.4028234663852886e38
"""Vectors are float32: a larger number is not finite there."""
TRIES = 4
MOST_PAUSE_S = 10.0


class EmbedError(Exception):
    """The server cannot be used, or has answered something that is no answer."""


class EmbedClient:
    """Asks for vectors, and believes nothing that the contract does not promise.

    Args:
        base_url: the server's address.
        dimension: the length that vectors must have.
        model: the model to ask for; None for the server's default.
        token: the bearer token, if the server wants one.
        timeout_s: for a whole answer, however slowly it comes; the server's batches may take seconds.
        health_timeout_s: for a look at its health, which is answered at once or not at all.
    """

    def __init__(
        self,
        base_url: str,
        dimension: int,
        *,
        model: str | None = None,
        token: str = "",
        timeout_s: float = 60.0,
        health_timeout_s: float = 3.0,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s, follow_redirects=False)
        self._dimension = dimension
        self._model = model
        self._timeout_s = timeout_s
        self._health_timeout_s = health_timeout_s

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order.

        Raises:
            EmbedError: the request is refused, the server stays unavailable, or its answer breaks the contract.
        """
        body: dict[str, Any] = {"texts": list(texts)} | ({"model": self._model} if self._model else {})
        retry_after = 0.0
        for attempt in range(TRIES):
            if attempt:
                time.sleep(min(retry_after, MOST_PAUSE_S))
                time.sleep(random.uniform(0.1, 0.2) * 2**attempt)  # noqa: S311 - not every client at once
            try:
                status, retry_after, content = self._post(body)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if status == HTTPStatus.OK:
                return self._checked(content, len(texts))
            problem = f"status {status}: {content[:200].decode(errors='replace')}"
            if status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
        raise EmbedError(problem)

    def is_well(self) -> bool:
        """Return whether the server can work: a slow one is not well, and one that is degraded is."""
        try:
            return self._client.get("/health", timeout=self._health_timeout_s).status_code == HTTPStatus.OK
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, body: dict[str, Any]) -> tuple[int, float, bytes]:
        ends = time.monotonic() + self._timeout_s
        with self._client.stream("POST", "/embed", json=body) as answer:
            content = bytearray()
            for part in answer.iter_bytes():
                content += part
                if time.monotonic() > ends:
                    message = f"an answer that takes longer than {self._timeout_s:g} s"
                    raise EmbedError(message)
                if len(content) > MOST_BYTES:
                    message = f"an answer of more than {MOST_BYTES} bytes"
                    raise EmbedError(message)
            if answer.status_code == HTTPStatus.OK and answer.headers.get("content-type") != "application/json":
                message = f"an answer of type {answer.headers.get('content-type')!r}"
                raise EmbedError(message)
            wait = answer.headers.get("retry-after", "")
            return answer.status_code, float(wait) if wait.isdecimal() else 0.0, bytes(content)

    def _checked(self, content: bytes, count: int) -> list[list[float]]:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            message = f"no JSON: {error}"
            raise EmbedError(message) from None
        if not isinstance(answer, dict):
            message = "no JSON object"
            raise EmbedError(message)
        vectors = answer.get("dense_vecs")
        facts = {
            "a model's name": isinstance(answer.get("model"), str) and self._model in {None, answer["model"]},
            f"a count of {count}": _is_int(answer.get("count")) and answer["count"] == count,
            f"a dimension of {self._dimension}": _is_int(answer.get("dimension"))
            and answer["dimension"] == self._dimension,
            f"{count} vectors": isinstance(vectors, list) and len(vectors) == count,
            "finite vectors of that dimension": isinstance(vectors, list) and all(map(self._is_vector, vectors)),
        }
        missing = [name for name, holds in facts.items() if not holds]
        if missing:
            message = f"the answer lacks {', '.join(missing)}"
            raise EmbedError(message)
        found: list[list[float]] = answer["dense_vecs"]
        return found

    def _is_vector(self, vector: object) -> bool:
        return (
            isinstance(vector, list)
            and len(vector) == self._dimension
            and all(isinstance(number, int | float) and not isinstance(number, bool) for number in vector)
            and all(math.isfinite(number) and abs(number) <= FLOAT32_MAX for number in vector)
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
