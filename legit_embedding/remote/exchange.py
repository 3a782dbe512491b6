"""One request to a remote model, and its answer."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx

from legit_embedding.errors import in_one_line
from legit_embedding.remote.answers import BrokenAnswerError, parsed, vectors
from legit_embedding.remote.errors import OutageError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.remote.model import RemoteModel
    from legit_embedding.remote.recipe import RemoteItem

CONNECT_S = 5.0
"""Longest time for a connection, TLS included."""
LARGEST_ANSWER = 256 * 1024 * 1024
"""Largest answer that is read, in bytes: 1,024 vectors of 4,096 numbers take less than half of it as JSON."""
LONGEST_PAUSE_S = 60.0
"""Longest ``Retry-After`` that is heeded; probes go on after that."""
_LARGEST_ERROR = 4096
_LONGEST_QUOTE = 200

_OF_ITEMS = frozenset({400, 413, 422})
_OF_ALL = {
    401: "the token is missing or not accepted",
    403: "the token has no right to this",
    404: "there is no such route or model; look at base_url and name",
}
_OK, _TOO_LARGE, _TOO_MANY, _UNAVAILABLE = 200, 413, 429, 503


class Exchange:
    """Sends items of one model and checks what comes back.

    Args:
        client: follows no redirects.
        model: the remote model.
    """

    def __init__(self, client: httpx.AsyncClient, model: RemoteModel) -> None:
        self._client = client
        self.model = model

    async def embed(self, items: Sequence[RemoteItem]) -> NDArray[np.float32]:
        """Embed items of one prompt: float32 ``[n, dim]``, finite, normalised unless the settings disable it.

        Raises:
            RefusedError: the remote refuses them.
            OutageError: anything else went wrong.
        """
        config = self.model.config
        try:
            async with asyncio.timeout(config.timeout_s):
                body = await self._post(items)
        except (TimeoutError, httpx.TimeoutException):
            raise OutageError("timeout", f"no answer within {config.timeout_s:g} s (timeout_s)") from None
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise OutageError("connect", f"no connection: {in_one_line(error, named=False)}", everyone=True) from None
        except httpx.HTTPError as error:
            raise OutageError("broken", f"the answer broke off: {in_one_line(error)}") from None
        try:
            rows = self.model.dialect.rows(parsed(body), len(items))
            found = vectors(rows, len(items), self.model.dimension, normalize=config.normalize)
        except BrokenAnswerError as error:
            raise OutageError("broken", f"the answer is broken: {error}") from None
        self.model.dimension = found.shape[1]
        return found

    async def _post(self, items: Sequence[RemoteItem]) -> bytes:
        model = self.model
        content = model.dialect.body(model.config, items, base64=model.base64)
        request = self._client.build_request("POST", model.url, content=content, headers=model.headers())
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code != _OK:
                raise _failure(response, self._quoted(await _read(response, _LARGEST_ERROR)))
            kind = response.headers.get("content-type", "")
            if kind.partition(";")[0].strip().lower() != "application/json":
                raise OutageError("broken", f"the answer is broken: {kind or 'something'} instead of JSON")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise OutageError("broken", "the answer is broken: it is compressed, which was not asked for")
            body = await _read(response, LARGEST_ANSWER + 1)
            if len(body) > LARGEST_ANSWER:
                raise OutageError("broken", f"the answer is broken: more than {LARGEST_ANSWER} bytes")
            return body
        finally:
            await response.aclose()

    def _quoted(self, body: bytes) -> str:
        """The remote's own words, for a person: short, printable and without the token."""
        words = " ".join(body.decode("utf-8", "replace").split())
        words = "".join(each if each.isprintable() else "?" for each in words)
        token = self.model.token()
        return (words.replace(token, "***") if token else words)[:_LONGEST_QUOTE]


async def _read(response: httpx.Response, most: int) -> bytes:
    """Read at most about this many bytes."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= most:
            break
    return bytes(body)


def _failure(response: httpx.Response, said: str) -> RefusedError | OutageError:
    status = response.status_code
    sentence = f"{status} {response.reason_phrase}".strip() + (f": {said}" if said else "")
    if status in _OF_ITEMS:
        return RefusedError(sentence, too_large=status == _TOO_LARGE)
    if status in _OF_ALL:
        return OutageError("status", f"{_OF_ALL[status]} ({sentence})", everyone=True)
    if response.is_redirect:
        return OutageError(
            "status", f"{status}: redirects are not followed; set base_url to where it leads", everyone=True
        )
    pause = _pause(response.headers.get("retry-after", "")) if status in {_TOO_MANY, _UNAVAILABLE} else 0.0
    busy = status in {_TOO_MANY, _UNAVAILABLE}
    return OutageError("status", sentence, retry_after_s=pause, everyone=busy or not response.is_server_error)


def _pause(value: str) -> float:
    """Read ``Retry-After``: seconds, or a date."""
    try:
        seconds = float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_PAUSE_S)
