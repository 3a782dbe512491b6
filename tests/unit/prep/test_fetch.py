from __future__ import annotations

import functools
import gzip
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpcore
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from legit_embedding.config import FetchConfig
from legit_embedding.errors import TaskError
from legit_embedding.prep import network
from legit_embedding.prep.fetch import Fetcher
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.prep.conftest import Handler, Site

BODY = random.Random(0).randbytes(50_000)
SECRET = "s3cret"  # must never be seen


@functools.cache
def trusting(certificates: str | None, **options: Any) -> ssl.SSLContext:
    """What takes longest about a fetcher, made once."""
    return httpx.create_ssl_context(**options)


@pytest.fixture
def fetcher(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fetcher]]:
    """Makes fetchers that may reach the site, and nothing else that is private."""
    made: list[Fetcher] = []
    monkeypatch.setattr(
        "legit_embedding.prep.fetch.create_ssl_context",
        lambda **options: trusting(os.environ.get("SSL_CERT_FILE"), **options),
    )

    def make(**config: Any) -> Fetcher:
        made.append(Fetcher(FetchConfig.model_validate({"allow_private": (site.place,), "timeout_s": 10.0} | config)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def refusal(fetcher: Fetcher, url: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        fetcher.fetch(url)
    detail = caught.value.detail
    assert SECRET not in detail
    assert len(detail.splitlines()) == 1
    return caught.value


def test_a_body_arrives_whole(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    site.pages["/photo"] = lambda request: request.answer(BODY)
    assert fetcher().fetch(site.url("/photo?size=1#top")) == BODY
    path, headers = site.requests[0]
    assert path == "/photo?size=1"
    assert headers["Host"] == site.place
    assert headers["Accept-Encoding"] == "identity"


def test_a_body_may_come_in_chunks_or_compressed(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    site.pages["/chunks"] = lambda request: request.answer(chunks, Content_Length=None, Transfer_Encoding="chunked")
    site.pages["/gzip"] = lambda request: request.answer(gzip.compress(BODY), Content_Encoding="gzip")
    assert fetcher().fetch(site.url("/chunks")) == b"hello world"
    assert fetcher().fetch(site.url("/gzip")) == BODY


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("file:///etc/passwd", "'file'"),
        ("ftp://host/x", "'ftp'"),
        ("gopher://host/x", "'gopher'"),
        ("data:image/png;base64,AAAA", "'data'"),
        ("", "scheme"),
        ("no url", "URL"),
        ("//host/path", "scheme"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("https://", "host"),
        ("http://host:99999999/", "port"),
        ("http://[::1", "URL"),
        ("http://xn--a/", "URL"),
        ("http://xn--zzzzzzz99999999999/", "URL"),
        ("http://ho\x00st/", "URL"),
        ("http://" + "a" * 70_000, "URL"),
    ],
)
def test_what_is_no_web_url_is_refused(fetcher: Callable[..., Fetcher], url: str, names: str) -> None:
    error = refusal(fetcher(), url)
    assert (error.code, error.transient) == ("fetch_refused", False)
    assert names in error.detail


def test_the_schemes_are_the_settings(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    error = refusal(fetcher(schemes=("https",)), site.url("/"))
    assert error.code == "fetch_refused"
    assert "only https URLs" in error.detail
    assert not site.connections


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0"])
def test_private_hosts_are_refused(site: Site, fetcher: Callable[..., Fetcher], host: str) -> None:
    error = refusal(
        fetcher(allow_private=("127.0.0.1:1",)), f"http://user:{SECRET}@{host}:{site.server_port}/?{SECRET}"
    )
    assert (error.code, error.transient) == ("fetch_refused", False)
    assert not site.connections


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Site, fetcher: Callable[..., Fetcher], status: int) -> None:
    site.pages["/a"] = lambda request: request.answer(status=status, Location="/b/../c?q=1")
    site.pages["/c"] = lambda request: request.answer(BODY)
    assert fetcher().fetch(site.url("/a")) == BODY
    assert [path for path, _ in site.requests] == ["/a", "/c?q=1"]


def test_redirects_are_counted(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    site.pages["/loop"] = lambda request: request.answer(status=302, Location=f"/loop?{SECRET}")
    error = refusal(fetcher(max_redirects=4), site.url("/loop"))
    assert (error.code, error.transient) == ("fetch_failed", False)
    assert "4 redirects" in error.detail
    assert len(site.requests) == 5


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("http://localhost:PORT/photo", "fetch_refused"),
        ("http://169.254.169.254/latest/meta-data/", "fetch_refused"),
        ("//10.0.0.1/", "fetch_refused"),
        ("file:///etc/passwd", "fetch_refused"),
        ("http://[::1", "fetch_failed"),
        ("http://:0:0/", "fetch_failed"),
    ],
)
def test_a_redirects_target_is_checked_too(site: Site, fetcher: Callable[..., Fetcher], target: str, code: str) -> None:
    location = target.replace("PORT", str(site.server_port))
    site.pages["/out"] = lambda request: request.answer(status=302, Location=location)
    assert refusal(fetcher(), site.url("/out")).code == code
    assert [path for path, _ in site.requests] == ["/out"]


def test_nothing_is_carried_to_another_host_or_task(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    other = f"http://localhost:{site.server_port}/there"
    site.pages["/here"] = lambda request: request.answer(status=302, Location=other, Set_Cookie="id=1; Path=/")
    site.pages["/there"] = lambda request: request.answer(BODY)
    fetches = fetcher(allow_private=(site.place, "localhost"))
    assert fetches.fetch(f"http://user:{SECRET}@{site.place}/here") == BODY
    assert fetches.fetch(site.url("/there")) == BODY
    first, second, third = (headers for _, headers in site.requests)
    assert first["Authorization"].startswith("Basic ")
    for headers in (second, third):
        assert "Authorization" not in headers
        assert "Cookie" not in headers


def test_proxies_of_the_environment_are_ignored(
    site: Site, fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    site.pages["/photo"] = lambda request: request.answer(BODY)
    assert fetcher().fetch(site.url("/photo")) == BODY


@pytest.mark.parametrize(
    ("status", "transient"),
    [(400, False), (403, False), (404, False), (410, False), (304, False), (429, True), (500, True), (503, True)],
)
def test_a_bad_status_is_a_failure(site: Site, fetcher: Callable[..., Fetcher], status: int, transient: bool) -> None:
    site.pages["/photo"] = lambda request: request.answer(status=status)
    error = refusal(fetcher(), f"http://user:{SECRET}@{site.place}/photo?token={SECRET}#{SECRET}")
    assert (error.code, error.transient) == ("fetch_failed", transient)
    assert f"{site.url('/photo')} answered {status}" in error.detail


def test_a_body_beyond_the_limit_is_not_read_on(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    site.pages["/endless"] = lambda request: request.pour(bytes(65536), head)
    error = refusal(fetcher(max_bytes=300_000), site.url("/endless"))
    assert (error.code, error.transient) == ("too_large", False)
    assert "300000" in error.detail
    assert site.poured < 30_000_000


def test_a_false_length_is_found_out(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    def short(request: Handler) -> None:
        request.answer(b"half", Content_Length=8)
        request.close_connection = True

    site.pages["/short"] = short
    site.pages["/long"] = lambda request: request.answer(b"twice over", Content_Length=5)
    site.pages["/huge"] = lambda request: request.answer(b"x", Content_Length=10**12)
    site.pages["/nonsense"] = lambda request: request.answer(b"x", Content_Length="many")
    error = refusal(fetcher(), site.url("/short"))
    assert (error.code, error.transient) == ("fetch_failed", True)
    assert fetcher().fetch(site.url("/long")) == b"twice"
    assert refusal(fetcher(), site.url("/huge")).code == "too_large"
    assert refusal(fetcher(), site.url("/nonsense")).code == "fetch_failed"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n", id="chunk"),
    ],
)
def test_dripping_does_not_outlast_the_time(site: Site, fetcher: Callable[..., Fetcher], head: bytes) -> None:
    site.pages["/drip"] = lambda request: request.pour(b"x", head)
    started = time.monotonic()
    error = refusal(fetcher(timeout_s=0.3), site.url(f"/drip?{SECRET}"))
    assert (error.code, error.transient) == ("fetch_timeout", True)
    assert "0.3 s" in error.detail
    assert time.monotonic() - started < 5


def test_slow_redirects_share_one_time(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    def wait(request: Handler) -> None:
        site.closing.wait(0.2)
        request.answer(status=302, Location="/wait")

    site.pages["/wait"] = wait
    assert refusal(fetcher(timeout_s=0.5, max_redirects=1000), site.url("/wait")).code == "fetch_timeout"


def test_a_broken_connection_is_transient(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    def hang_up(request: Handler) -> None:
        request.close_connection = True

    site.pages["/gone"] = hang_up
    nowhere = f"127.0.0.1:{free_port()}"
    fetches = fetcher(allow_private=(site.place, nowhere))
    for url in (site.url("/gone"), f"http://{nowhere}/x?{SECRET}"):
        error = refusal(fetches, url)
        assert (error.code, error.transient) == ("fetch_failed", True)


def test_an_answer_that_is_not_http_is_a_failure(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    site.pages["/noise"] = lambda request: request.pour(b"x" * 100, b"SSH-2.0-OpenSSH\r\n")
    site.pages["/long"] = lambda request: request.pour(b"x" * 4096, b"HTTP/1.1 200 OK\r\nX-Long: ")
    for path in ("/noise", "/long"):
        assert refusal(fetcher(), site.url(path)).code == "fetch_failed"


@pytest.mark.parametrize(("errno", "transient"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_an_unknown_host_is_permanent_and_a_silent_name_server_is_not(
    fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch, errno: int, transient: bool
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(errno, "no such luck")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    error = refusal(fetcher(), f"http://gone.example/?{SECRET}")
    assert (error.code, error.transient) == ("fetch_failed", transient)
    assert "no such luck" in error.detail


def test_threads_share_connections_and_mix_nothing_up(site: Site, fetcher: Callable[..., Fetcher]) -> None:
    site.pages["/echo"] = lambda request: request.answer(request.path.encode() * 500)
    fetches = fetcher()
    with ThreadPoolExecutor(8) as threads:
        bodies = list(threads.map(lambda i: fetches.fetch(site.url(f"/echo?{i}")), range(200)))
    assert bodies == [f"/echo?{i}".encode() * 500 for i in range(200)]
    assert site.connections <= 8


def test_the_name_stays_in_the_request(
    site: Site, fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "resolve", lambda host, port, timeout: ["127.0.0.1"])
    site.pages["/photo"] = lambda request: request.answer(BODY)
    place = f"photos.example:{site.server_port}"
    assert fetcher(allow_private=(place,)).fetch(f"http://{place}/photo") == BODY
    assert site.requests[0][1]["Host"] == place


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes certificates with openssl")
def test_certificates_are_checked_against_the_name(
    site: Site, fetcher: Callable[..., Fetcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    certificate = secure(site, tmp_path, names)
    monkeypatch.setattr(network, "resolve", lambda host, port, timeout: ["127.0.0.1"])
    site.pages["/photo"] = lambda request: request.answer(BODY)
    right, wrong = (f"{name}.example:{site.server_port}" for name in ("photos", "other"))
    strangers = fetcher(allow_private=(right, wrong))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    friends = fetcher(allow_private=(right, wrong))
    assert friends.fetch(f"https://{right}/photo") == BODY
    assert names == ["photos.example"]
    for fetches, place in ((friends, wrong), (strangers, right)):
        error = refusal(fetches, f"https://{place}/photo?{SECRET}")
        assert (error.code, error.transient) == ("fetch_failed", False)
        assert "certificate" in error.detail


def secure(site: Site, folder: Path, names: list[str | None]) -> Path:
    """Put TLS before the site, with a certificate of its own for photos.example; notes the names it is asked for."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=photos.example", "-addext", "subjectAltName=DNS:photos.example"]
    subprocess.run(
        ["openssl", *request, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _, name, __: names.append(name)
    site.socket = context.wrap_socket(site.socket, server_side=True, do_handshake_on_connect=False)
    return certificate


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", "http://", "https://", "http://a.example/", "HTTP:"]), st.text(max_size=30))
def test_no_text_is_anything_but_fetched_or_refused(quiet: Fetcher, start: str, text: str) -> None:
    with pytest.raises(TaskError):
        quiet.fetch(start + text)


@pytest.fixture
def quiet(fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    """A fetcher without a network."""

    def unreachable(host: str, port: int, timeout: float) -> list[str]:
        raise httpcore.ConnectError("no network in this test")

    monkeypatch.setattr(network, "resolve", unreachable)
    return fetcher()


def test_closing_ends_the_connections(site: Site) -> None:
    ended = threading.Event()
    site.pages["/photo"] = lambda request: request.answer(BODY)
    finish = site.shutdown_request
    site.shutdown_request = lambda request: (finish(request), ended.set())  # type: ignore[method-assign, assignment]
    fetches = Fetcher(FetchConfig(allow_private=(site.place,)))
    fetches.fetch(site.url("/photo"))
    assert not ended.is_set()
    fetches.close()
    assert ended.wait(10)


@pytest.mark.parametrize("around", [" {}", "{}\n", "\t{} \r\n"])
def test_white_space_around_a_url_is_no_part_of_it(site: Site, fetcher: Callable[..., Fetcher], around: str) -> None:
    site.pages["/photo"] = lambda request: request.answer(BODY)
    assert fetcher().fetch(around.format(site.url("/photo"))) == BODY


@pytest.mark.parametrize(("raw", "path"), [("/café.jpg".encode(), "/caf%C3%A9.jpg"), (b"/caf\xe9.jpg", "/caf%E9.jpg")])
def test_a_location_in_raw_bytes_leads_where_it_says(
    site: Site, fetcher: Callable[..., Fetcher], raw: bytes, path: str
) -> None:
    site.pages["/a"] = lambda request: request.answer(status=302, Location=raw.decode("latin-1"))
    site.pages[path] = lambda request: request.answer(BODY)
    assert fetcher().fetch(site.url("/a")) == BODY


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_without_a_body_is_a_failure(site: Site, fetcher: Callable[..., Fetcher], status: int) -> None:
    site.pages["/none"] = lambda request: request.answer(status=status)
    error = refusal(fetcher(), site.url("/none"))
    assert error.code == "fetch_failed"
    assert f"{status} without a body" in error.detail


ONE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
BOTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "connections"), [(ONE + b"right", 1), (ONE + b"right" + ONE + b"wrong", 3), (BOTH, 3)]
)
def test_the_rest_of_one_answer_is_never_the_next(
    fetcher: Callable[..., Fetcher], answer: bytes, connections: int
) -> None:
    accepted = []

    def serve(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                connection.sendall(answer)

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            accepted.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, daemon=True).start()
        place = f"127.0.0.1:{server.getsockname()[1]}"
        fetches = fetcher(allow_private=(place,))
        assert [fetches.fetch(f"http://{place}/{number}") for number in range(3)] == [b"right"] * 3
        assert len(accepted) == connections
        server.shutdown(socket.SHUT_RDWR)
