"""Comparison of compiled and eager execution on the device in use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.engine.recovery import is_lost
from legit_embedding.engine.sizing import compiled
from legit_embedding.engine.sizing.profile import launch, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from legit_embedding.engine.device.base import Device
    from legit_embedding.engine.sizing.compiled import Blocks
    from legit_embedding.models.backend import Backend

logger = logging.getLogger(__name__)

LEAST_GAIN = 1.03
"""Minimum speed-up for keeping the compiled model."""
LEAST_COSINE = 0.99
"""Minimum cosine similarity between compiled and eager vectors."""
_RUNS = 3


def compile_if_quicker(device: Device, backend: Backend, arrays: Sequence[NDArray[np.generic]]) -> bool:
    """Compile a model's blocks, and keep them compiled if that is faster and the vectors stay the same.

    Args:
        device: the model's device.
        backend: the model, warmed up.
        arrays: a full batch.
    """
    blocks: Blocks | None = None
    try:
        blocks = compiled.by_blocks(device, backend)
        if blocks is None:
            return False
        with blocks.eagerly():
            eager_s, expected = _measure(device, backend, arrays)
        seconds, vectors = _measure(device, backend, arrays)
    except Exception as error:  # no compiler, out of memory, a torch bug: eager mode still works
        if is_lost(error, device):
            raise
        logger.warning("Model %s runs as it is written: compiling it failed: %r", backend.name, error)
        _undo(backend)
        return False
    gain, cosine = eager_s / seconds, _least_cosine(vectors, expected)
    kept = gain >= LEAST_GAIN and cosine >= LEAST_COSINE
    said = "is compiled" if kept else "runs as it is written"
    logger.info("Model %s %s: compiled %.2f times the speed, cosine %.5f", backend.name, said, gain, cosine)
    if not kept:
        blocks.restore()
    return kept


def _undo(backend: Backend) -> None:
    blocks = compiled.Blocks.of(backend)
    if blocks is not None:
        blocks.restore()


def _measure(
    device: Device, backend: Backend, arrays: Sequence[NDArray[np.generic]]
) -> tuple[float, NDArray[np.float32]]:
    vectors = launch(device, backend, backend.forward, arrays).wait()
    return min(run(device, backend, backend.forward, arrays) for _ in range(_RUNS)), vectors


def _least_cosine(vectors: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((vectors * expected).sum(axis=1) / np.maximum(norms, 1e-12)).min())
