"""Requests that no honest client sends, and how each may be answered."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests.http_soak.valid import url

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

BODY_LIMIT = 1 << 20
"""What the server is set to."""
TEXT_LIMIT = 10_000
TOKEN = "a-token-of-the-soak"
JSON = "Content-Type: application/json"
GOOD = b'{"texts": ["a"], "input": "a"}'
PATHS = ("/embed", "/v1/embeddings")


@dataclass(frozen=True)
class Attack:
    """What is sent on one connection."""

    kind: str
    path: str
    sent: bytes
    statuses: tuple[int, ...]
    """One of these has to come, or nothing if 0 is among them: a closed connection."""
    ends: Literal["reads", "shuts", "leaves"] = "reads"
    """Whether the client reads the answer, says before that it sends no more, or is gone at once."""


def post(path: str, body: bytes, *headers: str, length: str | None = "", line: str = "") -> bytes:
    """A request; the length is right unless one is given, or none."""
    lengths = [] if length is None else [f"Content-Length: {length or len(body)}"]
    access = [] if any(each.startswith("Authorization") for each in headers) else [f"Authorization: Bearer {TOKEN}"]
    lines = [line or f"POST {path} HTTP/1.1", "Host: a", *access, *headers, *lengths, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey image of one bit per pixel with this compressed data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BOMB = png(60_000, 60_000, zlib.compress(b"\0" * 60_000_000))
"""60 kB that claim 3.6 thousand million pixels."""
WHOLE_BOMB = png(9_000, 9_000, zlib.compress(b"\0" * 9_000 * (9_000 // 8 + 1)))
"""81 million pixels that are really there: more than `fetch.max_pixels`."""


def _bodies() -> dict[str, tuple[list[Any], tuple[int, ...]]]:
    """Bodies that are sent as they should be, by kind: texts are bytes already, the rest is JSON."""
    return {
        "broken JSON": ([b'{"texts": ["a"', b"", b"\xff\xfe", b'{"texts": ["a",]}', b"{'texts': []}"], (400,)),
        "deep nesting": ([b'{"texts": ' + b"[" * 100_000, b'{"input": ' + b'{"a":' * 100_000], (400,)),
        "gigantic numbers": (
            [
                b'{"texts": ["a"], "input": "a", "dimensions": %s}' % n
                for n in (b"9" * 5000, b"1e999999", b"-0.5", b"NaN")
            ],
            (400, 422),
        ),
        "NUL and invalid UTF-8": (
            [
                b'{"texts": ["\xc3\x28"], "input": "\xc3\x28"}',
                b'{"texts": ["\\ud800"], "input": "\\ud800"}',
                b"\0" * 99,
            ],
            (400, 422),
        ),
        "wrong types": (
            [{"texts": n, "input": n} for n in (None, 1, True, [1.5], [None], {"a": 1}, ["a", 1], [[["a"]]])]
            + [[], "a", 1],
            (422,),
        ),
        "too many, too long": (
            [{"texts": ["a"] * 2049, "input": ["a"] * 2049}, {"texts": ["a" * 10_001], "input": "a" * 10_001}],
            (413,),
        ),
        "unknown names": (
            [{"texts": ["a"], "input": "a", "model": n} for n in ("gpt", "clip", "../minilm", "x" * 512)],
            (404,),
        ),
        "impossible fields": (
            [
                {"texts": ["a"], "input": "a", **more}
                for more in ({"prompt_name": "none"}, {"dimensions": 7}, {"model": ""}, {"model": "x" * 513})
            ],
            (422,),
        ),
    }


def _of_bodies(kind: str) -> Callable[[random.Random], Attack]:
    bodies, statuses = _bodies()[kind]

    def made(dice: random.Random) -> Attack:
        path, body = dice.choice(PATHS), dice.choice(bodies)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Attack(kind, path, post(path, sent, JSON), statuses)

    return made


def _images(kind: str, urls: list[str]) -> Callable[[random.Random], Attack]:
    def made(dice: random.Random) -> Attack:
        path, image = dice.choice(PATHS), dice.choice(urls)
        body = {"images": [image]} if path == "/embed" else {"input": image, "modality": "image"}
        return Attack(kind, path, post(path, json.dumps(body).encode(), JSON), (413, 422))

    return made


def _tokens(dice: random.Random) -> Attack:
    """Token ids that the model does not have."""
    ids = dice.choice([[-1], [1 << 40], [30_522], [101, 2_000_000_000, 102], [[]], [[101], []], [True], [101] * 10_001])
    return Attack("token ids", PATHS[1], post(PATHS[1], json.dumps({"input": ids}).encode(), JSON), (413, 422))


def _lengths(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    sent, statuses = dice.choice(
        [
            (post(path, GOOD, JSON, length="100000"), (0, 400)),
            (post(path, GOOD, JSON, length="5"), (400,)),
            (post(path, GOOD, JSON, length="-1"), (400,)),
            (post(path, GOOD, JSON, length="0x1e"), (400,)),
            (post(path, GOOD, JSON, length="1" * 30), (400,)),
            (post(path, GOOD[: len(GOOD) // 2], JSON, length=str(len(GOOD))), (0, 400)),
        ]
    )
    return Attack("wrong lengths and half bodies", path, sent, statuses, "shuts")


def _oversized(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    chunk = b"40000\r\n" + b"a" * 0x40000 + b"\r\n"
    sent, statuses = dice.choice(
        [
            (post(path, b"{", JSON, length=str(10**12)), (413,)),
            (post(path, chunk * 5, JSON, "Transfer-Encoding: chunked", length=None), (413,)),
            (post(path, b"a" * (BODY_LIMIT + 1), JSON), (413,)),
            (post(path, b"", JSON, "X: " + "y" * 70_000), (0, 431)),
            (post(path, b"", JSON, *[f"X{n}: y" for n in range(9000)]), (0, 431)),
            (post(path, b"", line=f"POST /{'a' * 80_000} HTTP/1.1"), (0, 431)),
        ]
    )
    return Attack("oversized bodies and heads", path, sent, statuses)


def _chunks(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    lie = dice.choice(
        [b"5\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"zz\r\n", b"F" * 40 + b"\r\n{", b"2\r\n{}{}{}\r\n0\r\n\r\n"]
    )
    sent = post(path, lie, JSON, "Transfer-Encoding: chunked", length=None)
    return Attack("chunks that lie", path, sent, (0, 400), "shuts")


def _smuggling(dice: random.Random) -> Attack:
    path, hidden = dice.choice(PATHS), b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    headers = dice.choice(
        [
            ["Content-Length: 3", "Content-Length: 30"],
            ["Content-Length: 3, 30"],
            [f"Content-Length: {len(hidden)}", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", f"Content-Length: {len(hidden)}"],
            ["Transfer-Encoding: xchunked"],
            ["Transfer-Encoding: chunked, identity"],
            ["Transfer-Encoding : chunked"],
            ["Content-Length : 3"],
            ["Transfer-Encoding:\x0bchunked"],
        ]
    )
    return Attack("smuggling", path, post(path, hidden, JSON, *headers, length=None), (0, 400), "shuts")


def _not_http(dice: random.Random) -> Attack:
    sent = dice.choice(
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /embed\r\n\r\n",
            b"POST /embed HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            b"POST /embed HTTP/9.9\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\r\n" * 2000 + b"\0",
            bytes(dice.randrange(256) for _ in range(200)),
        ]
    )
    return Attack("not HTTP", "", sent, (0, 400), "shuts")


def _old_http(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    sent = post(path, b"", JSON, length=None, line=f"POST {path} HTTP/1.0")
    return Attack("HTTP/1.0 without a body", path, sent, (400,))


def _pipelined(dice: random.Random) -> Attack:
    """An honest request before garbage is answered as if it were alone."""
    garbage = bytes(dice.randrange(1, 256) for _ in range(300))
    return Attack("pipelined garbage", "/live", b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n\0" + garbage, (200,))


def _content_types(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    header = dice.choice([["Content-Type: text/plain"], ["Content-Type: multipart/form-data; boundary=a"], []])
    return Attack("wrong content types", path, post(path, GOOD, *header), (415,))


def _credentials(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    header = dice.choice(["Bearer wrong", "Bearer", "Basic YTpi", "", "bearer \xff", "Bearer " + "x" * 9000])
    return Attack("wrong tokens", path, post(path, GOOD, JSON, f"Authorization: {header}"), (401,))


def _headers(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    header = dice.choice(["X-Priority: high", "X-Request-Deadline-Ms: soon", f"X-Request-Deadline-Ms: {'9' * 5000}"])
    return Attack("wrong headers", path, post(path, GOOD, JSON, header), (422,))


def _routes(dice: random.Random) -> Attack:
    line = dice.choice(
        ["GET /embed", "DELETE /v1/embeddings", "POST /embed/", "POST /%00", "GET /v1/models/..%2f..%2fa"]
    )
    return Attack("wrong routes and methods", line.split()[1], post("", b"", line=f"{line} HTTP/1.1"), (404, 405))


def _leaving(dice: random.Random) -> Attack:
    path = dice.choice(PATHS)
    whole = post(path, json.dumps({"texts": ["some words"] * 20, "input": ["some words"] * 20}).encode(), JSON)
    return Attack("gone in the middle", path, whole[: dice.choice([20, len(whole) // 2, len(whole)])], (), "leaves")


KINDS: dict[str, Callable[[random.Random], Attack]] = {
    **{kind: _of_bodies(kind) for kind in _bodies()},
    "decompression bombs": _images("decompression bombs", [url(BOMB), url(WHOLE_BOMB)]),
    "broken images": _images(
        "broken images",
        [url(b"\x89PNG\r\n\x1a\n"), url(b"\xff\xd8\xff\xe0" + b"\0" * 99), url(b"GIF89a"), "data:,a", "data:;base64,%"],
    ),
    "forbidden addresses": _images(
        "forbidden addresses", ["http://127.0.0.1/a", "file:///etc/passwd", "http://[::1]:6379"]
    ),
    "token ids": _tokens,
    "wrong lengths and half bodies": _lengths,
    "oversized bodies and heads": _oversized,
    "chunks that lie": _chunks,
    "smuggling": _smuggling,
    "not HTTP": _not_http,
    "HTTP/1.0 without a body": _old_http,
    "pipelined garbage": _pipelined,
    "wrong content types": _content_types,
    "wrong tokens": _credentials,
    "wrong headers": _headers,
    "wrong routes and methods": _routes,
    "gone in the middle": _leaving,
}
