"""Collation of texts of different lengths into one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def padded(arrays: Sequence[NDArray[np.generic]], filler: int) -> dict[str, torch.Tensor]:
    """Pad on the right to the longest text.

    Args:
        arrays: token ids; ids of a prompt that pooling excludes are given as their bitwise complements.
        filler: the id of the padding token.
    """
    lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, filler, dtype=np.int64)
    ids[mask] = np.concatenate(arrays)
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if ids.min() < 0:
        pooled = mask & (ids >= 0)
        batch |= {"input_ids": np.where(ids < 0, ~ids, ids), "pooling_mask": pooled.astype(np.int64)}
    return {name: torch.from_numpy(array) for name, array in batch.items()}
