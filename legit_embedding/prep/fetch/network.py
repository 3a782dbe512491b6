"""The network as a fetch sees it: only addresses that it may reach, and only until its time is up."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore

from legit_embedding.errors import TaskError
from legit_embedding.prep.fetch.addresses import PrivateHosts, is_public

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator


class Deadline(threading.local):
    """When the calling thread's fetch has to be over; a fetch runs in one thread."""

    at = float("inf")

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Set the deadline for the block."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            del self.at

    def left(self) -> float:
        """The seconds that are left.

        Raises:
            httpcore.ReadTimeout: none are.
        """
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout("the time is up")
        return min(seconds, threading.TIMEOUT_MAX)


class GuardedNetwork(httpcore.NetworkBackend):
    """Resolves a name once, checks every address that it has, and connects to what it checked.

    Because the check is on the way to the connection, a name that resolves to something else the next time (DNS
    rebinding), a redirect or an odd spelling of an address gains nothing. The name itself still goes into TLS and the
    request. httpcore's own timeouts are per read; here the deadline overrules them.
    """

    def __init__(self, allow_private: Iterable[str]) -> None:
        self.deadline = Deadline()
        self._private = PrivateHosts(allow_private)
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline overrules it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a host.

        Raises:
            TaskError: ``fetch_refused``: the host has an address that is not public, and is not allowed to.
        """
        failure: Exception = httpcore.ConnectError("the name has no address")
        addresses = self._checked(host, port)
        for tried, address in enumerate(addresses):
            share = self.deadline.left() / (len(addresses) - tried)  # a silent address must not use up the others' time
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return DeadlineStream(stream, self.deadline)
        raise failure

    def _checked(self, host: str, port: int) -> list[str]:
        addresses = resolve(host, port, self.deadline.left())
        refused = next((address for address in addresses if not is_public(address)), None)
        if refused is not None and (host, port) not in self._private:
            where = host if host == refused else f"{host} ({refused})"
            raise TaskError(
                "fetch_refused", f"{where} is not a public address, and fetch.allow_private does not list it"
            )
        return addresses


class DeadlineStream(httpcore.NetworkStream):
    """A connection on which nothing outlasts the deadline of the thread that uses it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Read what has come."""
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send it all."""
        self._stream.write(buffer, self._deadline.left())

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Go on in TLS."""
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        return DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        """The connection's extra information."""
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()


def resolve(host: str, port: int, timeout: float) -> list[str]:
    """The addresses of a host, in the order in which to try them.

    Raises:
        httpcore.ConnectTimeout: no answer in time.
        httpcore.ConnectError: there is no such name; its cause says whether that may change.
    """
    answer: Future[list[str]] = Future()
    # The system's resolver takes no timeout, so a thread waits for it that may be left behind.
    threading.Thread(target=_resolve, args=(host, port, answer), name=f"resolve {host}", daemon=True).start()
    try:
        return answer.result(timeout)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from error
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name cannot be resolved: {error}") from error


def _resolve(host: str, port: int, answer: Future[list[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
        answer.set_exception(error)
    else:
        answer.set_result(list(dict.fromkeys(str(address[0]) for *_, address in found)))
