"""The process that decodes images whose decoders can be slow. It has no torch, little memory, and may be killed.

It reads a request (the sizes, then the file) from its standard input and answers on its standard output (a line of
JSON, then the pixels), until its input ends.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import TaskError
from legit_embedding.prep.images.header import open_image, refusing_bad_data
from legit_embedding.prep.images.opening import load, packed

if TYPE_CHECKING:
    from typing import BinaryIO

REQUEST = struct.Struct("<QQd")
"""The length of the file, the largest number of pixels, and how long to decode, in seconds."""
_GRACE_S = 1.0
_OWN_BYTES = 1 << 30
_BYTES_A_PIXEL = 12


def main() -> None:
    """Answer until nobody asks any more."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        length, max_pixels, budget_s = REQUEST.unpack(head)
        _limit_memory(_OWN_BYTES + length * 2 + max_pixels * _BYTES_A_PIXEL)
        data = requests.read(length)
        # The worker ends what takes too long; if the worker itself was killed meanwhile, nobody else does.
        signal.setitimer(signal.ITIMER_REAL, budget_s + _GRACE_S)
        _answer(data, max_pixels, answers)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(data: bytes, max_pixels: int, answers: BinaryIO) -> None:
    fields: dict[str, Any]
    try:
        with refusing_bad_data():
            image, repaired = load(open_image(data, max_pixels), data, max_pixels)
            pixels = image.tobytes()
            fields = packed(image) | {"repaired": repaired, "length": len(pixels)}
    except TaskError as error:
        fields, pixels = {"error": error.code, "detail": error.detail}, b""
    answers.write(json.dumps(fields).encode() + b"\n" + pixels)
    answers.flush()


def _limit_memory(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
