"""CPU device."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import torch

from legit_embedding.engine.device.choice import Choice
from legit_embedding.engine.sizing.cost_model import CPU_MEMORY_SHARE, CPU_UNKNOWN_BYTES
from legit_embedding.prep.memory import available_memory, return_free_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, torch.Tensor]
    Forward = Callable[[Tensors], torch.Tensor]

RETURN_S = 10.0
"""Seconds from a batch until the memory that batches have freed goes back to the system, which takes milliseconds."""
_STOP_S = 2.0
_CPU = Choice("cpu", "the settings say so")


class CpuDevice:
    """CPU behind the asynchronous device interface, with a dedicated thread in place of a stream."""

    reads_block = False

    def __init__(self, choice: Choice = _CPU) -> None:
        self.choice = choice
        self.torch_device = torch.device("cpu")
        self._free_bytes: int | None = None
        self._return_at: float | None = None
        self._launched: SimpleQueue[CpuPending | None] = SimpleQueue()
        self._stream = threading.Thread(target=self._run, name="engine-cpu", daemon=True)
        self._stream.start()

    def dtype(self, precision: str) -> torch.dtype:
        """Return float32 unless another precision is named explicitly."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)

    def collating(self) -> AbstractContextManager[None]:
        """Return a null context: no special memory is needed."""
        return nullcontext()

    def stage(self, inputs: Tensors) -> Tensors:
        """Return the inputs unchanged; there is nothing to copy."""
        return inputs

    def launch(self, forward: Forward, inputs: Tensors) -> CpuPending:
        """Queue the batch behind earlier ones."""
        pending = CpuPending(forward, inputs)
        self._launched.put(pending)
        return pending

    def free_bytes(self) -> int:
        """Return the memory for batches: a share of what was available when it was first asked for.

        It stays the same, because the allocator keeps what a batch has used, and the next one uses it again.
        """
        if self._free_bytes is None:
            available = available_memory()
            self._free_bytes = CPU_UNKNOWN_BYTES if available is None else int(CPU_MEMORY_SHARE * available)
        return self._free_bytes

    def used_bytes(self) -> int:
        """Return the process's resident memory, or 0 if it is unknown."""
        try:
            with open("/proc/self/statm", encoding="ascii") as statm:
                return int(statm.read().split()[1]) * 4096
        except OSError:
            return 0

    def watch_peak(self) -> None:
        """Do nothing; the peak is not tracked."""

    def peak_bytes(self) -> int | None:
        """Return None; the peak is not tracked."""
        return None

    def release_cache(self) -> None:
        """Do nothing; there is no cache."""

    def probe(self) -> None:
        """Do nothing; a CPU does not break."""

    def adopt_thread(self) -> None:
        """Do nothing; any thread may wait."""

    def close(self) -> None:
        """Stop the stream thread; abandon it if it is stuck in a batch."""
        self._launched.put(None)
        # Join, because a thread still inside torch at interpreter exit aborts the process.
        self._stream.join(_STOP_S)

    def abandon(self, *held: object) -> None:  # noqa: ARG002 - the protocol's signature
        """Close as usual; a CPU's memory can be freed at any time."""
        self.close()

    def _run(self) -> None:
        while (pending := self._next()) is not None:
            pending.compute()
            if self._return_at is None:
                self._return_at = time.monotonic() + RETURN_S

    def _next(self) -> CpuPending | None:
        """Wait for the next batch; between two batches, return free memory if that is due."""
        if self._return_at is not None:
            left = self._return_at - time.monotonic()
            with suppress(Empty):
                if left > 0:
                    return self._launched.get(timeout=left)
            return_free_memory()
            self._return_at = None
        return self._launched.get()


class CpuPending:
    """Batch on the CPU's stream thread."""

    def __init__(self, forward: Forward, inputs: Tensors) -> None:
        self._work: tuple[Forward, Tensors] | None = (forward, inputs)
        self._outcome: NDArray[np.float32] | BaseException | None = None
        self._over = threading.Event()
        self.seconds = 0.0

    def compute(self) -> None:
        """Run the batch; called by the stream thread."""
        assert self._work is not None  # noqa: S101 - computed once
        forward, inputs = self._work
        self._work = None
        started = time.perf_counter()
        try:
            with torch.inference_mode():
                self._outcome = forward(inputs).float().numpy()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the loop decides
            self._outcome = error
        self.seconds = time.perf_counter() - started
        self._over.set()

    def wait(self) -> NDArray[np.float32]:
        """Wait for the vectors."""
        self._over.wait()
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, BaseException):
            raise outcome
        assert outcome is not None  # noqa: S101 - the batch is over
        return outcome
