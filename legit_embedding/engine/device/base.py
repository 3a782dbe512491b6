"""The device as the loop sees it, and the CPU in that role."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import torch

from legit_embedding.engine.device.choice import Choice, choose
from legit_embedding.engine.sizing.cost_model import CPU_BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, torch.Tensor]
    Forward = Callable[[Tensors], torch.Tensor]

_STOP_S = 2.0
_CPU = Choice("cpu", "the settings say so")


class Pending(Protocol):
    """A batch that the device has been given."""

    seconds: float
    """How long it computed; known after `wait`."""

    def wait(self) -> NDArray[np.float32]:
        """Wait for the vectors, ``[n, dim]``, without holding the GIL.

        Raises:
            Exception: what the model or the device raised.
        """


class Device(Protocol):
    """Runs batches one after the other, while the thread that launches them prepares the next.

    Only the loop's thread calls it, but for `Pending.wait`, which the completions' thread calls after `adopt_thread`.
    """

    torch_device: torch.device
    choice: Choice
    """Which device this is, and why this one."""
    thorough: bool
    """Whether it pays to look for each model's knee here before the start."""

    def dtype(self, precision: str) -> torch.dtype:
        """The type of the weights under this precision setting."""

    def collating(self) -> AbstractContextManager[None]:
        """Within this the next batch is put together, which then is staged."""

    def stage(self, inputs: Tensors) -> Tensors:
        """Start the copy of a collated batch to the device."""

    def launch(self, forward: Forward, inputs: Tensors) -> Pending:
        """Start the computation of a staged batch, and the copy of its vectors back."""

    def free_bytes(self) -> int:
        """What batches could take at the moment."""

    def used_bytes(self) -> int:
        """What this process holds."""

    def watch_peak(self) -> None:
        """Forget the peak so far."""

    def peak_bytes(self) -> int | None:
        """The peak since `watch_peak`, beyond what was held then; None where the device does not say."""

    def release_cache(self) -> None:
        """Give memory that is kept for later batches back to the device."""

    def probe(self) -> None:
        """Do something trivial.

        Raises:
            Exception: the device is broken for good.
        """

    def adopt_thread(self) -> None:
        """Let this thread wait for batches."""

    def close(self) -> None:
        """Give up what the device holds besides the models."""

    def abandon(self, *held: object) -> None:
        """Called instead of `close` when the engine has failed: the device may be broken for good.

        Args:
            held: what refers to batches in flight. On a broken GPU it must not be freed.
        """


def open_device(name: str, *, thorough: bool = False) -> Device:
    """Open ``auto``, ``cpu`` or ``cuda:N``. Called by the loop's thread: this is where a CUDA context comes from.

    Args:
        name: what the settings say.
        thorough: look for each model's knee on a CPU too, as is always done on a GPU: for a plan.

    Raises:
        ConfigError: there is no such device, or ``auto`` finds a GPU that torch can't use.
    """
    choice = choose(name)
    if choice.device == "cpu":
        return CpuDevice(thorough=thorough, choice=choice)
    from legit_embedding.engine.device.cuda import CudaDevice

    return CudaDevice(choice)


class CpuDevice:
    """The CPU behind the interface of an asynchronous device: a thread of its own takes the place of the stream."""

    def __init__(self, batch_bytes: int = CPU_BATCH_BYTES, *, thorough: bool = False, choice: Choice = _CPU) -> None:
        self.choice = choice
        self.thorough = thorough
        self.torch_device = torch.device("cpu")
        self._batch_bytes = batch_bytes
        self._launched: SimpleQueue[CpuPending | None] = SimpleQueue()
        self._stream = threading.Thread(target=self._run, name="engine-cpu", daemon=True)
        self._stream.start()

    def dtype(self, precision: str) -> torch.dtype:
        """Float32 unless another precision is asked for by name."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)

    def collating(self) -> AbstractContextManager[None]:
        """Any memory will do."""
        return nullcontext()

    def stage(self, inputs: Tensors) -> Tensors:
        """Nothing to copy."""
        return inputs

    def launch(self, forward: Forward, inputs: Tensors) -> CpuPending:
        """Queue the batch behind those launched before."""
        pending = CpuPending(forward, inputs)
        self._launched.put(pending)
        return pending

    def free_bytes(self) -> int:
        """A constant: `CPU_BATCH_BYTES` stands in for a measurement."""
        return self._batch_bytes

    def used_bytes(self) -> int:
        """The process's resident memory, 0 where that is not known."""
        try:
            with open("/proc/self/statm", encoding="ascii") as statm:
                return int(statm.read().split()[1]) * 4096
        except OSError:
            return 0

    def watch_peak(self) -> None:
        """Nothing to forget."""

    def peak_bytes(self) -> int | None:
        """The CPU does not say."""
        return None

    def release_cache(self) -> None:
        """Nothing is kept."""

    def probe(self) -> None:
        """A CPU does not break."""

    def adopt_thread(self) -> None:
        """Any thread may wait."""

    def close(self) -> None:
        """End the stream's thread; leave it behind if it is stuck in a batch."""
        self._launched.put(None)
        # Waited for, because a thread that is inside torch when the interpreter ends aborts the process.
        self._stream.join(_STOP_S)

    def abandon(self, *held: object) -> None:  # noqa: ARG002 - the protocol's signature
        """A CPU's memory can be freed at any time."""
        self.close()

    def _run(self) -> None:
        while (pending := self._launched.get()) is not None:
            pending.compute()


class CpuPending:
    """A batch on the CPU's stream."""

    def __init__(self, forward: Forward, inputs: Tensors) -> None:
        self._work: tuple[Forward, Tensors] | None = (forward, inputs)
        self._outcome: NDArray[np.float32] | BaseException | None = None
        self._over = threading.Event()
        self.seconds = 0.0

    def compute(self) -> None:
        """Run the batch; called by the stream's thread."""
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
