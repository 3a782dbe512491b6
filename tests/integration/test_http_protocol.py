"""Clients of the HTTP door that are too slow, too many, or don't speak HTTP."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.sources.http import door, patience, protocol, reading
from tests.door import NULL, Served
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIVE = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"
WIDE = {"words": NULL | {"kind": "text", "options": {"dim": 768}}}
MANY = json.dumps({"texts": ["a"] * 2000}).encode()
"""Of `WIDE` the answer has 6 MB, more than the system buffers for a client that doesn't read."""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(WIDE, {}, start=True)
    yield served
    served.close()


def post(body: bytes, path: str = "/embed", *more: str) -> bytes:
    length = [] if any("ength" in each or "ransfer" in each for each in more) else [f"Content-Length: {len(body)}"]
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *length, *more, "", ""]
    return "\r\n".join(lines).encode() + body


def told(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def unread(port: int) -> socket.socket:
    """A connection whose client takes little before it reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def open_connections(served: Served) -> int:
    return len(served.source._server.server_state.connections)


BROKEN = [
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ("NUL in a header", b"GET /live HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", b"400"),
    ("a line without a colon", b"GET /live HTTP/1.1\r\nHost a\r\n\r\n", b"400"),
    ("two lengths", post(b"{}", "/embed", "Content-Length: 2", "Content-Length: 3"), b"400"),
    ("a length and chunks", post(b"0\r\n\r\n", "/embed", "Content-Length: 5", "Transfer-Encoding: chunked"), b"400"),
    ("no chunk", post(b"nonsense\r\n", "/embed", "Transfer-Encoding: chunked"), b"400"),
    ("a length of letters", post(b"{}", "/embed", "Content-Length: 2a"), b"400"),
    ("a large whole head", post(b"{}", "/embed", "X: " + "y" * protocol.HEAD_BYTES), b"431"),
    ("many headers", post(b"{}", "/embed", *[f"X{n}: y" for n in range(9000)]), b"431"),
    ("a large head", b"GET /live HTTP/1.1\r\nX: " + b"y" * protocol.HEAD_BYTES, b"431"),
]


@pytest.mark.parametrize(("sent", "status"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_what_is_not_http_is_answered_in_the_shape_of_errors(served: Served, sent: bytes, status: bytes) -> None:
    with served.connection() as broken:
        broken.sendall(sent)
        head, _, body = told(broken).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in head
    assert set(json.loads(body)) == {"error", "detail"}
    assert served.client.get("/live").status_code == 200


def test_below_v1_it_has_openais_shape(served: Served) -> None:
    with served.connection() as broken:
        broken.sendall(post(b"nonsense\r\n", "/v1/embeddings", "Transfer-Encoding: chunked"))
        assert json.loads(told(broken).partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


@pytest.mark.parametrize("garbage", [b"garbage\r\n\r\n", post(b"nonsense\r\n", "/embed", "Transfer-Encoding: chunked")])
def test_a_request_before_garbage_is_answered_and_nothing_else(served: Served, garbage: bytes) -> None:
    with served.connection() as pipelining:
        pipelining.sendall(post(b'{"texts": ["a"]}') + LIVE + garbage)
        answers = told(pipelining)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200") == 2
    assert b'"count":1' in answers


def test_a_newcomer_takes_the_place_that_has_waited_longest_for_its_client(serve: Callable[..., Served]) -> None:
    served = serve(max_connections=4)
    with ExitStack() as stack:

        def newcomer() -> socket.socket:
            made = stack.enter_context(served.connection())
            assert is_live(made)
            return made

        idle, in_head, in_body = newcomer(), *(stack.enter_context(served.connection()) for _ in range(2))
        in_head.sendall(b"POST /embed HTTP/1.1\r\nHost: a\r\nX: ")
        in_body.sendall(post(b'{"te', "/embed", "Content-Length: 1000"))
        wait_for(lambda: served.source.held()[1], 20, "the body's first bytes")
        recent = newcomer()
        for gone in (idle, in_head, in_body):
            newcomer()
            assert told(gone) == b""
        assert is_live(recent)
        assert closed(served) == {"gave_way": 4, "unread": 0, "slow": 0}, "three, and one for who asks"
        assert served.source.held() == (0, 0)


def test_bytes_after_an_answer_do_not_keep_a_connection(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE_S", 1.0)
    served = serve()
    with served.connection() as idle:
        assert is_live(idle)
        assert told(idle) == b""
    assert not any(closed(served).values()), "an idle connection is nobody's fault"
    with served.connection() as dripping:
        dripping.sendall(LIVE[:-2] + b"Content-Length: 1000000\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):
            wait_for(lambda: dripping.send(b"x") == 0, 60, "the connection to be closed")


def test_an_answer_that_is_not_read_in_time_costs_its_connection(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE_S", 1.0)
    served = serve(WIDE)
    for more in ((), ("Connection: close",)):
        with unread(served.port) as dawdling:
            dawdling.sendall(post(MANY, "/embed", *more))
            wait_for(lambda: open_connections(served) == 1, 20, "the connection")
            wait_for(lambda: open_connections(served) == 0, 60, "the connection to be closed")
            assert not is_whole(told(dawdling))
    assert closed(served)["slow"] == 2


def test_answers_that_nobody_reads_do_not_pile_up(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "UNREAD_BYTES", 8_000_000)
    served = serve(WIDE)
    with ExitStack() as stack:
        sockets = []
        for number in range(5):
            sockets.append(stack.enter_context(unread(served.port)))
            sockets[-1].sendall(post(MANY))
            wait_for(lambda number=number: answered(served) > number, 60, "the answer")
        ends = [is_whole(told_once(each)) for each in sockets]
    assert not ends[0], "the one that has been unread for the longest is cut off"
    assert ends[-1], "and the last one is whole"
    assert closed(served)["unread"] == ends.count(False)


def test_bodies_that_stand_still_give_way_where_bytes_are_short(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STILL_S", 0.0)
    served = serve(max_body_bytes=100_000)
    with ExitStack() as stack:
        little = stand(stack, served, b"{")
        hoards = [stand(stack, served, b'{"texts": ["a"]'.ljust(99_000)) for _ in range(door.BODIES)]
        with served.connection() as honest:
            honest.sendall(post(b'{"texts": ["a"]'.ljust(80_000) + b"}"))
            assert told_once(honest).startswith(b"HTTP/1.1 200")
        assert closed(served)["gave_way"] == 2, "one that held a byte, which was not enough, and one that held much"
        assert told(little) == told(hoards[0]) == b""
        hoards[1].sendall(b"}".ljust(1000))
        assert told_once(hoards[1]).startswith(b"HTTP/1.1 200"), "the others go on"


def test_bodies_that_go_on_do_not_give_way(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "STILL_S", 600.0)
    served = serve(max_body_bytes=100_000)
    with ExitStack() as stack:
        for _ in range(door.BODIES):
            stand(stack, served, b" " * 99_000)
        with served.connection() as newcomer:
            newcomer.sendall(post(b" " * 80_000))
            assert told_once(newcomer).startswith(b"HTTP/1.1 503")
        assert closed(served)["gave_way"] == 0


def stand(stack: ExitStack, served: Served, part: bytes) -> socket.socket:
    """A connection whose client stops in the middle of a body of 100,000 bytes."""
    made = stack.enter_context(served.connection())
    held = served.source.held()[1]
    made.sendall(post(part, "/embed", "Content-Length: 100000"))
    wait_for(lambda: served.source.held()[1] == held + len(part), 20, "its bytes")
    return made


def is_live(connection: socket.socket) -> bool:
    connection.sendall(LIVE)
    return told_once(connection).startswith(b"HTTP/1.1 200")


def answered(served: Served) -> float:
    line = next(
        (e for e in metrics(served) if 'route="/embed"' in e and e.startswith("legit_http_requests_total")), "0"
    )
    return float(line.rpartition(" ")[2])


def closed(served: Served) -> dict[str, float]:
    """The connections that were closed on their clients, by cause."""
    lines = (line for line in metrics(served) if line.startswith("legit_http_closed_total{"))
    return {line.partition('cause="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def metrics(served: Served) -> list[str]:
    return served.client.get("/metrics").text.splitlines()


def told_once(connection: socket.socket) -> bytes:
    """An answer, or what comes of it."""
    answer = b""
    with suppress(ConnectionResetError):
        while not is_whole(answer) and (part := connection.recv(1 << 20)):
            answer += part
    return answer


def is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    lengths: list[Any] = [line.split(b": ")[1] for line in head.splitlines() if line.startswith(b"content-length")]
    return bool(lengths) and len(body) == int(lengths[0])
