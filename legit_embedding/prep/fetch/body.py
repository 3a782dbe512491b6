"""The body of a response, read no further than its limit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpcore

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_BARE = -zlib.MAX_WBITS
_GZIP = b"\x1f\x8b"
_STEP = 256 * 1024
_MOST_MEMBERS = 10_000
_COMPRESSIONS = frozenset({b"gzip", b"x-gzip", b"deflate"})
_NO_COMPRESSION = frozenset({b"", b"identity", b"none", b"binary", b"aws-chunked", b"utf-8", b"utf8", b"7bit", b"8bit"})
"""Values that servers write there although they say nothing of the bytes that they send."""


def read_body(response: httpcore.Response, limit: int) -> bytes:
    """Read the whole body, decompressed.

    Raises:
        TaskError: ``too_large``: more bytes are declared, come, or come out of compression than the limit.
            ``fetch_failed``: compressed in a way that was not asked for, or wrongly.
    """
    declared = _value(response, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks = _limited(response.iter_stream(), limit)
    encodings = [name.strip().lower() for name in _value(response, b"content-encoding").split(b",")]
    compressions = [name for name in encodings if name not in _NO_COMPRESSION]
    if len(compressions) > 1 or not _COMPRESSIONS.issuperset(compressions):
        named = ", ".join(name.decode("latin-1") for name in compressions)
        raise TaskError("fetch_failed", f"the answer is compressed as {named!r}, which was not asked for")
    if compressions:
        chunks = _limited(_inflated(chunks), limit)
    return b"".join(chunks)


def _value(response: httpcore.Response, name: bytes) -> bytes:
    """A header's value; of a header that comes several times, the list of them."""
    return b",".join(value.strip() for key, value in response.headers if key.lower() == name)


def _limited(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress in small steps: one chunk of a bomb holds a thousand times its size."""
    members = _Members()
    try:
        for chunk in chunks:
            yield from members.inflated(chunk)
    except zlib.error as error:
        raise TaskError("fetch_failed", f"the answer is wrongly compressed: {error}") from error
    if not members.whole:
        raise TaskError("fetch_failed", "the answer's compressed data ends too early", transient=True)


class _Members:
    """Compressed data: one stream of zlib or bare deflate, or gzip members one after another, perhaps padded."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._unread = b""
        self._begun = self._finished = 0

    @property
    def whole(self) -> bool:
        """True if the data may end here."""
        return 0 < self._begun == self._finished

    def inflated(self, chunk: bytes) -> Iterator[bytes]:
        """The bytes that come out of one more chunk."""
        rest, self._unread = self._unread + chunk, b""
        while rest:
            if self._begun == self._finished:
                if len(rest) < len(_GZIP):
                    self._unread = rest
                    return
                if self._begun and not rest.startswith(_GZIP):
                    return
                self._begin(rest)
            yield self._inflater.decompress(rest, _STEP)
            self._finished += self._inflater.eof
            rest = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    def _begin(self, data: bytes) -> None:
        self._begun += 1
        if self._begun > _MOST_MEMBERS:
            raise TaskError("fetch_failed", f"the answer consists of more than {_MOST_MEMBERS} gzip members")
        # Servers disagree on whether `deflate` has zlib's header.
        has_header = data.startswith(_GZIP) or (data[0] & 0xF == zlib.DEFLATED and not int.from_bytes(data[:2]) % 31)
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB if has_header else _BARE)


def _too_large(limit: int) -> TaskError:
    return TaskError("too_large", f"the image has more than {limit} bytes (fetch.max_bytes)")
