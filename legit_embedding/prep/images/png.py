"""PNG files without what is not needed for their pixels."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_CRC = 4
_MOST_CHUNKS = 50_000
_ANCILLARY = 0x20
_MOST_ALPHAS = 256


def pixels_only(data: bytes) -> bytes | None:
    """The file with its critical chunks only and the image data in one; None of a file with too many chunks.

    What an ancillary chunk holds (texts, a colour profile, the frames of an animation) has no part in the pixels, so it
    is neither unpacked nor checked, save the transparency, which is kept where it is sound: some models' processors
    blend with it. The critical chunks keep their checksums, for the decoder to find wrong.
    """
    view = memoryview(data)
    kept: list[bytes | memoryview] = [SIGNATURE]
    image: list[memoryview] = []
    at, chunks = len(SIGNATURE), 0
    while len(head := data[at : at + _HEAD.size]) == _HEAD.size:
        length, kind = _HEAD.unpack(head)
        end = at + _HEAD.size + length + _CRC
        chunks += 1
        if chunks > _MOST_CHUNKS:
            return None
        if kind == b"IDAT" and _is_sound(view[at:end], length):
            image.append(view[at + _HEAD.size : end - _CRC])
        elif not kind[0] & _ANCILLARY or (
            kind == b"tRNS" and length <= _MOST_ALPHAS and _is_sound(view[at:end], length)
        ):
            kept += [*_joined(image), view[at:end]]
            image = []
        at = end
    return b"".join([*kept, *_joined(image)])


def _is_sound(chunk: memoryview, length: int) -> bool:
    """True if a chunk is there as a whole, with its right checksum; else it goes to the decoder as it is."""
    body = chunk[4 : _HEAD.size + length]
    return len(chunk) == _HEAD.size + length + _CRC and zlib.crc32(body) == int.from_bytes(chunk[-_CRC:])


def _joined(image: list[memoryview]) -> list[bytes]:
    if not image:
        return []
    body = b"IDAT" + b"".join(image)
    return [struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))]
