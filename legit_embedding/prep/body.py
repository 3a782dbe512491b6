"""The body of a response, read no further than its limit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpcore

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_STEP = 256 * 1024


def read_body(response: httpcore.Response, limit: int) -> bytes:
    """Read the whole body, decompressed.

    Raises:
        TaskError: ``too_large``: more bytes are declared, come, or come out of compression than the limit.
            ``fetch_failed``: compressed in a way that was not asked for, or wrongly.
    """
    headers = {key.lower(): value for key, value in response.headers}
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: Iterable[bytes] = response.iter_stream()
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding in {b"gzip", b"x-gzip", b"deflate"}:
        chunks = _inflated(chunks)
    elif encoding not in {b"", b"identity"}:
        raise TaskError("fetch_failed", f"the answer is compressed as {encoding!r}, which was not asked for")
    return _joined(chunks, limit)


def _joined(chunks: Iterable[bytes], limit: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        body += chunk
    return bytes(body)


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress in small steps: one chunk of a bomb holds a thousand times its size."""
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        for chunk in chunks:
            rest = chunk
            while rest and not inflater.eof:
                yield inflater.decompress(rest, _STEP)
                rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise TaskError("fetch_failed", f"the answer is wrongly compressed: {error}") from error
    if not inflater.eof:
        raise TaskError("fetch_failed", "the answer's compressed data ends too early", transient=True)


def _too_large(limit: int) -> TaskError:
    return TaskError("too_large", f"the image has more than {limit} bytes (fetch.max_bytes)")
