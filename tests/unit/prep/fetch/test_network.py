from __future__ import annotations

import socket
import threading
import time
from typing import Any

import httpcore
import pytest

from legit_embedding.errors import TaskError
from legit_embedding.prep.fetch import network
from legit_embedding.prep.fetch.network import GuardedNetwork, resolve


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What names resolve to: addresses, an error, or something to call first. Literal addresses stay themselves."""
    table: dict[str, Any] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host not in table:
            return real(host, port, *args, **kwargs)
        answer = table[host]() if callable(table[host]) else table[host]
        if isinstance(answer, Exception):
            raise answer
        return [entry for address in answer for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def connect(host: str, port: int, allow: list[str] | None = None, seconds: float = 5) -> httpcore.NetworkStream:
    guarded = GuardedNetwork(allow or [])
    with guarded.deadline.within(seconds):
        return guarded.connect_tcp(host, port)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "::1", "::ffff:127.0.0.1", "0177.0.0.1"],
)
def test_every_spelling_of_the_loopback_address_is_refused(host: str, listener: socket.socket) -> None:
    with pytest.raises(TaskError, match=r"fetch_refused: .* is not a public address") as caught:
        connect(host, listener.getsockname()[1])
    assert "allow_private" in caught.value.detail
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_one_private_address_among_public_ones_is_enough(answers: dict[str, Any]) -> None:
    answers["mixed.example"] = ["8.8.8.8", "10.1.2.3"]
    with pytest.raises(TaskError, match=r"mixed.example \(10.1.2.3\)"):
        connect("mixed.example", 80)


def test_a_listed_host_may_be_private(answers: dict[str, Any], listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    answers["photos.example"] = ["127.0.0.1"]
    connect("photos.example", port, [f"photos.example:{port}"]).close()
    with pytest.raises(TaskError, match=r"photos\.example"):
        connect("photos.example", port, [f"photos.example:{port + 1}", "127.0.0.1"])


def test_what_was_checked_is_what_is_connected_to(
    answers: dict[str, Any], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that is public when it is checked, and private from then on. Nothing listens at its first address.
    monkeypatch.setattr(network, "is_public", lambda address: address == "127.0.0.2")
    replies = iter([["127.0.0.2"]])
    answers["rebinding.example"] = lambda: next(replies, ["127.0.0.1"])
    with pytest.raises(httpcore.ConnectError):
        connect("rebinding.example", listener.getsockname()[1])
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert next(replies, None) is None, "it was resolved once"


def test_the_next_address_is_tried_when_one_fails(answers: dict[str, Any], listener: socket.socket) -> None:
    answers["two.example"] = ["127.0.0.2", "127.0.0.1"]
    connect("two.example", listener.getsockname()[1], ["two.example"]).close()


def test_a_silent_resolver_does_not_outlast_the_deadline(answers: dict[str, Any]) -> None:
    release = threading.Event()

    def never() -> list[str]:
        release.wait(30)
        return ["8.8.8.8"]

    answers["silent.example"] = never
    started = time.monotonic()
    with pytest.raises(httpcore.ConnectTimeout):
        connect("silent.example", 80, seconds=0.1)
    release.set()
    assert time.monotonic() - started < 10


def test_a_name_that_does_not_resolve_says_why(answers: dict[str, Any]) -> None:
    answers["gone.example"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(httpcore.ConnectError, match="Name or service not known") as caught:
        resolve("gone.example", 80, 5)
    assert isinstance(caught.value.__cause__, socket.gaierror)
    with pytest.raises(httpcore.ConnectError, match="cannot be resolved"):
        resolve("a" * 64 + ".example", 80, 5)


def test_reads_end_at_the_deadline_however_often_something_comes(listener: socket.socket) -> None:
    guarded = GuardedNetwork(["127.0.0.1"])
    with guarded.deadline.within(5):
        stream = guarded.connect_tcp("127.0.0.1", listener.getsockname()[1])
    peer, _ = listener.accept()
    with peer, guarded.deadline.within(0.2):
        while True:
            peer.send(b"x")
            try:
                assert stream.read(1, timeout=60) == b"x"
            except httpcore.ReadTimeout:
                break
    stream.close()
    with pytest.raises(httpcore.ReadTimeout), guarded.deadline.within(0):
        stream.write(b"x")


def test_a_deadline_is_its_threads_own() -> None:
    guarded = GuardedNetwork([])
    seen: list[float] = []
    with guarded.deadline.within(1):
        thread = threading.Thread(target=lambda: seen.append(guarded.deadline.left()))
        thread.start()
        thread.join()
        assert guarded.deadline.left() <= 1
    assert seen[0] > 1000
    assert guarded.deadline.left() > 1000
