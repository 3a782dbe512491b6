"""A client of ``POST /embed``, written from the contract alone (docs/reference/contract.md, section 7). It needs httpx.

It believes no answer that is not whole and right, asks again only after a 503, and gives health a timeout of its
own, so that a busy server is not taken for a dead one.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 64 * 1024 * 1024
"""The longest answer that is read: 2,048 vectors of 1,024 numbers, at 20 characters each, and some room."""


class WrongAnswerError(Exception):
    """The answer is not what the contract promises; nothing of it may be used."""


class EmbedClient:
    """Embeds texts at one server, with vectors of one length.

    Args:
        base_url: the server, such as ``http://127.0.0.1:8000``.
        dimension: the length that every vector must have.
        token: the bearer token, if the server has one.
        timeout_s: for one try of a request that embeds, in seconds.
        health_timeout_s: for the question whether the server is well, in seconds.
        tries: how often a request is sent at most, while the server answers 503.
    """

    def __init__(
        self,
        base_url: str,
        dimension: int,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        health_timeout_s: float = 3.0,
        tries: int = 5,
    ) -> None:
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s, trust_env=False)
        self._dimension = dimension
        self._timeout_s = timeout_s
        self._health_timeout_s = health_timeout_s
        self._tries = tries

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, in order.

        Raises:
            WrongAnswerError: the answer breaks the contract.
            httpx.HTTPStatusError: the server refused the request, or answered 503 to every try.
            httpx.TransportError: the server cannot be reached, or went silent.
        """
        for _ in range(self._tries - 1):
            response, body = self._post(texts)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(_pause(response) * random.uniform(1.0, 2.0))  # noqa: S311 - so that clients don't return at once
        else:
            response, body = self._post(texts)
        if response.status_code != httpx.codes.OK:
            message = f"{response.status_code} from {response.url}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        return self._checked(response, body, len(texts))

    def is_ready(self) -> bool:
        """Ask whether the server can do its work; one that is slow to answer counts as not ready."""
        try:
            return self._client.get("/health", timeout=self._health_timeout_s).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, texts: Sequence[str]) -> tuple[httpx.Response, bytes]:
        body, ends = bytearray(), time.monotonic() + self._timeout_s
        with self._client.stream("POST", "/embed", json={"texts": list(texts)}) as response:
            for chunk in response.iter_raw():  # as sent: a compressed answer is refused, not unpacked
                body += chunk
                if time.monotonic() > ends:
                    message = f"the answer is not complete after {self._timeout_s:g} s"
                    raise httpx.ReadTimeout(message)
                if len(body) > MOST_BYTES:
                    message = f"the answer has more than {MOST_BYTES} bytes"
                    raise WrongAnswerError(message)
        return response, bytes(body)

    def _checked(self, response: httpx.Response, body: bytes, count: int) -> list[list[float]]:
        if response.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise WrongAnswerError("the answer is not declared as JSON")
        try:
            answer: Any = json.loads(body)
        except (ValueError, RecursionError):
            raise WrongAnswerError("the answer is not JSON") from None
        vectors = answer.get("dense_vecs") if isinstance(answer, dict) else None
        if not isinstance(vectors, list) or not isinstance(answer.get("model"), str):
            raise WrongAnswerError("the answer has no model or no dense_vecs")
        for field, wanted in (("count", count), ("dimension", self._dimension)):
            if type(answer.get(field)) is not int or answer[field] != wanted:
                message = f"{field}: expected {wanted}"
                raise WrongAnswerError(message)
        if len(vectors) != count or not all(map(self._is_vector, vectors)):
            message = f"dense_vecs: expected {count} vectors of {self._dimension} finite numbers, none all zero"
            raise WrongAnswerError(message)
        return vectors

    def _is_vector(self, vector: object) -> bool:
        return (
            isinstance(vector, list)
            and len(vector) == self._dimension
            and all(type(each) in (int, float) and abs(each) < _LARGEST for each in vector)
            and any(vector)
        )


_LARGEST = 3.5e38
"""Beyond the range of float32, in which vectors are computed; NaN and infinity aren't below it either."""


def _pause(response: httpx.Response) -> float:
    """The seconds that ``Retry-After`` asks for, a minute at most; 1 if it says nothing that can be read."""
    said = response.headers.get("retry-after", "")
    return min(float(said), 60.0) if said.isascii() and said.isdecimal() else 1.0
