"""What is left of a device that is broken for good.

After a sticky CUDA error the destructors of what was in flight throw: pinned memory, streams and events ask the driver
for something once more. An exception in a destructor ends the process on the spot, with messages still in hand. So
nothing of it may be freed any more: it is parked here, the process hands back what it holds and says goodbye, and then
leaves without tidying up.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import Final

EXIT_CODE: Final = 1

_parked: list[object] = []


def park(*parts: object) -> None:
    """Keep these, and everything that they refer to, until the process has ended; it then ends with `EXIT_CODE`."""
    _parked.extend(parts)


def _leave() -> None:
    """The interpreter is about to free everything: leave it undone."""
    if not _parked:
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(EXIT_CODE)


# Registered when the engine is imported, thus before what comes with a worker's work: the later ones run first.
atexit.register(_leave)
