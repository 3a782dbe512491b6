from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import httpcore
import pytest

from legit_embedding.errors import TaskError
from legit_embedding.prep.body import read_body

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISE = random.Random(1).randbytes(100_000)


def response(body: bytes, step: int = 65536, **headers: str) -> httpcore.Response:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    chunks = [body[start : start + step] for start in range(0, len(body), step)]
    return httpcore.Response(200, headers=fields, content=iter(chunks))


def refusal(limit: int, answer: httpcore.Response) -> TaskError:
    with pytest.raises(TaskError) as caught:
        read_body(answer, limit)
    return caught.value


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert read_body(response(NOISE), len(NOISE)) == NOISE
    assert refusal(len(NOISE) - 1, response(NOISE)).code == "too_large"


def test_a_declared_length_is_believed_when_it_is_too_large() -> None:
    def never() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = httpcore.Response(200, headers=[(b"Content-Length", b"1001")], content=never())
    error = refusal(1000, answer)
    assert (error.code, error.transient) == ("too_large", False)
    assert "1000" in error.detail


@pytest.mark.parametrize("step", [1, 7, 65536])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate"])
def test_compressed_bodies_are_decompressed(encoding: str, step: int) -> None:
    body = NOISE[:3000] + bytes(700_000)
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    assert read_body(response(packed, step, content_encoding=encoding), len(body)) == body
    assert refusal(len(body) - 1, response(packed, step, content_encoding=encoding)).code == "too_large"


def test_a_bomb_takes_no_memory() -> None:
    bomb = gzip.compress(bytes(60_000_000), 1)
    answer = response(bomb, content_encoding="gzip")
    tracemalloc.start()
    assert refusal(1_000_000, answer).code == "too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "identity, br"])
def test_other_compression_is_refused(encoding: str) -> None:
    error = refusal(1000, response(b"x", content_encoding=encoding))
    assert error.code == "fetch_failed"
    assert encoding.removeprefix("identity, ") in error.detail


def test_broken_compression_is_a_failure() -> None:
    assert refusal(1000, response(b"not gzip at all", content_encoding="gzip")).code == "fetch_failed"
    cut = refusal(10_000, response(gzip.compress(NOISE[:5000])[:3000], content_encoding="gzip"))
    assert (cut.code, cut.transient) == ("fetch_failed", True)


@pytest.mark.parametrize("encoding", ["aws-chunked", "utf-8", "none", "binary", "identity", "Identity, none", ""])
def test_what_is_no_compression_changes_nothing(encoding: str) -> None:
    assert read_body(response(NOISE, content_encoding=encoding), len(NOISE)) == NOISE


@pytest.mark.parametrize("step", [1, 7, 65536])
def test_lists_several_members_and_bare_deflate_are_decompressed(step: int) -> None:
    body = NOISE[:3000]
    members = gzip.compress(body[:1000]) + gzip.compress(body[1000:]) + bytes(9)
    bare = zlib.compressobj(wbits=-15)
    packed = bare.compress(body) + bare.flush()
    assert read_body(response(members, step, content_encoding="gzip, identity"), 10_000) == body
    assert read_body(response(packed, step, content_encoding="deflate"), 10_000) == body
    assert refusal(2999, response(members, step, content_encoding="gzip")).code == "too_large"


def test_members_without_end_are_refused() -> None:
    empty = gzip.compress(b"")
    assert refusal(10_000_000, response(empty * 10_001, content_encoding="gzip")).code == "fetch_failed"
    assert refusal(1000, response(empty * 1000, content_encoding="gzip")).code == "too_large"
