"""Recovery from failed batches, so that one bad item does not fail the others."""

from __future__ import annotations

import logging
import time
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch

from legit_embedding.engine.halving import Halving
from legit_embedding.errors import TaskError, in_one_line

if TYPE_CHECKING:
    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.device.base import Device
    from legit_embedding.engine.in_flight import InFlightBatches
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.outcomes import Outcomes

logger = logging.getLogger(__name__)

RETRY_DELAYS_S = (0.05, 0.25, 1.0)
"""Delays before retrying a single item that ran out of memory, in seconds."""

_ALLOCATIONS = ("_status_alloc_failed", "allocation_failed")  # cuBLAS and cuDNN 8; cuDNN 9
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", *_ALLOCATIONS)
_DEVICE_SIGNS = (
    *("cuda error", "cuda driver error", "triton error", "cudnn error", "cudnn_status", "cublas_status", "cusolver"),
    "device-side assert",
)
_ACCELERATOR_ERROR: type[BaseException] = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)  # torch >= 2.8


class DeviceLostError(RuntimeError):
    """The device is permanently broken; only a new process can use it again."""


class Fault(Enum):
    """Kinds of failure."""

    MEMORY = auto()
    DEVICE = auto()
    BATCH = auto()


def diagnose(error: BaseException, device: Device) -> Fault:
    """Classify an error as out of memory, a broken device, or a fault of the batch."""
    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Fault.MEMORY
    if isinstance(error, RuntimeError) and any(sign in text for sign in _MEMORY_SIGNS):
        return Fault.MEMORY
    if isinstance(error, _ACCELERATOR_ERROR) or any(sign in text for sign in _DEVICE_SIGNS):
        # Many of these affect one batch only, for example an invalid launch. A broken device also fails the probe.
        return Fault.DEVICE if _is_broken(device) else Fault.BATCH
    return Fault.BATCH


def is_lost(error: BaseException | None, device: Device) -> bool:
    """Return True if this error, or one of its causes, shows that the device is permanently broken."""
    while error is not None:
        if diagnose(error, device) is Fault.DEVICE:
            return True
        error = error.__cause__
    return False


def _is_broken(device: Device) -> bool:
    try:
        device.probe()
    except Exception:
        logger.exception("The device does not even do something trivial any more")
        return True
    return False


class Recovery:
    """Retries or answers the items of failed batches. Used by the loop's thread only."""

    def __init__(self, device: Device, outcomes: Outcomes, in_flight: InFlightBatches) -> None:
        self._device = device
        self._halving = Halving(outcomes, in_flight)

    def handle(self, queue: ModelQueue, batch: Batch, error: BaseException) -> None:
        """Split a failed batch, schedule a retry, or answer its last item.

        Raises:
            DeviceLostError: the device is permanently broken; the batch is untouched.
        """
        fault = diagnose(error, self._device)
        if fault is Fault.DEVICE:
            message = f"the device is broken for good: {in_one_line(error)}"
            raise DeviceLostError(message) from error
        if fault is Fault.MEMORY:
            # Drop the traceback: its frames hold the tensors of the failed call.
            error.__traceback__ = error.__context__ = error.__cause__ = None
            self._out_of_memory(queue, batch)
        else:
            self._failed(queue, batch, error)

    def _out_of_memory(self, queue: ModelQueue, batch: Batch) -> None:
        queue.counters.ooms += 1
        self._device.release_cache()
        if len(batch.deliveries) > 1:
            self._make_smaller(queue, batch)
        elif batch.lone_failures < len(RETRY_DELAYS_S):
            batch.not_before = time.monotonic() + RETRY_DELAYS_S[batch.lone_failures]
            batch.lone_failures += 1
            queue.retry(batch)
        else:
            self._give_up(queue, batch)

    def _make_smaller(self, queue: ModelQueue, batch: Batch) -> None:
        # Lower the ceiling once per original batch, however often its parts fail: the next batches show whether its
        # size or one of its items was the cause.
        if batch.memory_failed_at is None:
            batch.memory_failed_at = queue.ceiling.shrink(batch.cost)
            logger.warning(
                "%s ran out of memory at batch cost %d: largest batch now %d",
                queue.name,
                batch.cost,
                queue.ceiling.cost,
            )
        self._halving.split(queue, batch)

    def _give_up(self, queue: ModelQueue, batch: Batch) -> None:
        if batch.memory_failed_at is not None:
            queue.ceiling.restore(batch.memory_failed_at)
        tries = len(RETRY_DELAYS_S) + 1
        detail = f"the device ran out of memory {tries} times on this item alone: make it smaller or try again later"
        self._halving.answer(batch, TaskError("model_failed", detail))

    def _failed(self, queue: ModelQueue, batch: Batch, error: BaseException) -> None:
        if len(batch.deliveries) > 1:
            logger.warning(
                "%d items failed together on %s, trying halves: %r", len(batch.deliveries), queue.name, error
            )
            self._halving.split(queue, batch)
            return
        queue.counters.failed_in_row += 1
        logger.error("%s failed on one item", queue.name, exc_info=error)
        if batch.split:
            answer = TaskError(
                "poisoned", f"the model fails on this item, also without its batch: {in_one_line(error)}"
            )
        else:
            answer = TaskError("model_failed", f"the model failed on this item: {in_one_line(error)}")
        self._halving.answer(batch, answer)
