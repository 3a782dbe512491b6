"""Downloads for ``image_url``: bounded in size, time and reach."""

from __future__ import annotations

import ssl
from base64 import b64encode
from contextlib import contextmanager
from operator import attrgetter
from socket import EAI_AGAIN, gaierror
from typing import TYPE_CHECKING

import httpcore
import httpx
from httpx import create_ssl_context

from legit_embedding.errors import TaskError, in_one_line
from legit_embedding.prep.fetch.body import read_body
from legit_embedding.prep.fetch.network import GuardedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.config import FetchConfig

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_PORTS = 1 << 16
_KEPT_CONNECTIONS = 64
_KEEP_S = 15.0
_LONGEST_SHOWN = 200
_FIRST_NON_ASCII = 0x80
_left_over = attrgetter("_stream._connection._h11_state.trailing_data")


class Fetcher:
    """Fetches URLs; safe to use from many threads at once.

    It sits directly on httpcore: no cookies, no proxies from the environment, no log of full URLs, and credentials only
    as each URL holds them, so that a redirect takes none along to another host.
    """

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._network = GuardedNetwork(config.allow_private)
        self._pool = httpcore.ConnectionPool(
            ssl_context=create_ssl_context(),
            max_connections=None,  # a thread has one at most
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=_KEEP_S,
            network_backend=self._network,
        )

    def fetch(self, url: str) -> bytes:
        """Download what is at a URL.

        Raises:
            TaskError: ``fetch_refused``, ``fetch_failed``, ``fetch_timeout`` or ``too_large``; transient where trying
                again may help.
        """
        target = self._parse(url)
        with self._network.deadline.within(self._config.timeout_s):
            for _ in range(self._config.max_redirects + 1):
                answer = self._get(target)
                if isinstance(answer, bytes):
                    return answer
                target = self._parse(_joined(target, answer))
        limit = f"more than {self._config.max_redirects} redirects (fetch.max_redirects), the last to {shown(target)}"
        raise TaskError("fetch_failed", limit)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _parse(self, url: str) -> httpx.URL:
        try:
            parsed = httpx.URL(url.strip())
            host = parsed.host  # decodes an international name, which may be none
        except (httpx.InvalidURL, ValueError):
            raise TaskError("fetch_refused", "image_url: this cannot be read as a URL") from None
        if parsed.scheme not in self._config.schemes:
            allowed = " or ".join(self._config.schemes)
            raise TaskError(
                "fetch_refused", f"only {allowed} URLs are fetched, and this one's scheme is {parsed.scheme[:20]!r}"
            )
        if not host or not 0 < (parsed.port or 1) < _PORTS:
            raise TaskError("fetch_refused", "image_url: the URL names no host, or no port that there is")
        return parsed

    def _get(self, url: httpx.URL) -> bytes | str:
        """The body, or, as the server writes it, where it has moved to."""
        with self._explaining(url), self._pool.stream("GET", _target(url), headers=_headers(url)) as response:
            if response.status in _REDIRECTS and (location := _header(response, b"location")):
                return location
            if not httpx.codes.is_success(response.status):
                raise _bad_status(url, response.status)
            body = read_body(response, self._config.max_bytes)
            if not _ends_cleanly(response):
                response.extensions["network_stream"].close()
            if not body:
                raise TaskError("fetch_failed", f"{shown(url)} answered {response.status} without a body")
            return body

    @contextmanager
    def _explaining(self, url: httpx.URL) -> Iterator[None]:
        try:
            yield
        except httpcore.TimeoutException as error:
            detail = f"{shown(url)} did not answer in full within {self._config.timeout_s:g} s (fetch.timeout_s)"
            raise TaskError("fetch_timeout", detail, transient=True) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            reason = in_one_line(error, named=False)
            detail = f"{shown(url)} cannot be fetched: {reason}"
            raise TaskError("fetch_failed", detail, transient=_may_change(error)) from error


def shown(url: httpx.URL) -> str:
    """A URL as it may be shown: without credentials, query and fragment, which can hold secrets."""
    text = f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _target(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"Host", url.netloc),
        (b"Accept", b"image/*,*/*;q=0.5"),
        (b"Accept-Encoding", b"identity"),  # images are compressed already
        (b"User-Agent", b"legit-embedding"),
    ]
    if url.userinfo:
        credentials = f"{url.username}:{url.password}".encode()
        headers.append((b"Authorization", b"Basic " + b64encode(credentials)))
    return headers


def _header(response: httpcore.Response, name: bytes) -> str:
    """A header's text: UTF-8, or what else it is with its bytes escaped as URLs do it."""
    value = next((value for key, value in response.headers if key.lower() == name), b"")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < _FIRST_NON_ASCII else f"%{byte:02X}" for byte in value)


def _ends_cleanly(response: httpcore.Response) -> bool:
    """True if the connection may serve another request, now that the body has been read.

    httpcore keeps a connection on which more has come than the answer, and takes the rest for the next answer. Where
    its internals do not tell, the connection is not used again.
    """
    names = {key.lower() for key, _ in response.headers}
    try:
        rest, _ = _left_over(response.stream)
    except AttributeError:
        return False
    return not rest and not {b"content-length", b"transfer-encoding"} <= names


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise TaskError("fetch_failed", f"{shown(url)} redirects to what cannot be read as a URL") from error


def _bad_status(url: httpx.URL, status: int) -> TaskError:
    phrase = httpx.codes.get_reason_phrase(status)
    detail = f"{shown(url)} answered {status} {phrase}".rstrip()
    return TaskError("fetch_failed", detail, transient=status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR)


def _may_change(error: Exception) -> bool:
    """True if a failure of the network may be over at the next attempt."""
    reason = error.__cause__ or error.__context__  # httpcore clears the cause on the way
    if isinstance(reason, gaierror):
        return reason.errno == EAI_AGAIN
    permanent = (ssl.SSLCertVerificationError, UnicodeError)
    return not isinstance(reason, permanent) and not isinstance(error, httpcore.LocalProtocolError)
