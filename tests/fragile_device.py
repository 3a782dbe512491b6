"""A CPU that is as fragile as a GPU after a sticky error: for a worker, by ``-I tests.fragile_device``.

As soon as `tests.faulty_model` has pretended such an error, nothing works on it any more, and whatever was in flight
aborts the process when it is freed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from legit_embedding.engine.device import open as device
from legit_embedding.engine.device import wreck
from legit_embedding.engine.device.cpu import CpuDevice, CpuPending
from tests.faulty_model import STICKY_MESSAGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.engine.device.base import Forward, Tensors


class InFlight:
    """Memory that more than one stream uses."""

    broken = False

    def __del__(self) -> None:
        if InFlight.broken:
            os.abort()


class FragilePending(CpuPending):
    def __init__(self, pending: CpuPending) -> None:
        self._pending = pending
        self._held: InFlight | None = InFlight()
        self.seconds = 0.0

    def wait(self) -> NDArray[np.float32]:
        try:
            vectors = self._pending.wait()
        except RuntimeError as error:
            InFlight.broken = InFlight.broken or STICKY_MESSAGE in str(error)
            raise
        self.seconds = self._pending.seconds
        self._held = None
        return vectors


class FragileDevice(CpuDevice):
    def launch(self, forward: Forward, inputs: Tensors) -> CpuPending:
        return FragilePending(super().launch(forward, inputs))

    def probe(self) -> None:
        if InFlight.broken:
            raise RuntimeError(STICKY_MESSAGE)

    def abandon(self, *held: object) -> None:
        wreck.park(self, *held)


device.CpuDevice = FragileDevice  # type: ignore[misc]
