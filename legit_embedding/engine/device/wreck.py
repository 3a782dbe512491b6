"""Handling of objects on a permanently broken device.

After a sticky CUDA error the destructors of objects in flight throw, because pinned memory, streams and events call the
driver once more. An exception in a destructor terminates the process immediately, with messages still unacknowledged.
So none of these objects may be freed: they are parked here, the process gives its messages back and shuts down, and
then exits without running destructors.
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
    """Keep these objects and everything they refer to alive until the process exits, which it does with `EXIT_CODE`."""
    _parked.extend(parts)


def _leave() -> None:
    """Exit without freeing anything if objects are parked."""
    if not _parked:
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(EXIT_CODE)


# Registered when the engine is imported, before the worker registers its own handlers: later ones run first.
atexit.register(_leave)
