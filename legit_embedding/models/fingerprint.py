"""A short name for a set of weights: two models that answer with vectors of one space have the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_VALUES = 1024
_DIGITS = 16


def fingerprint(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Sixteen hexadecimal digits from the name, the shape and a thousand evenly spread values of each tensor.

    Values are taken as bfloat16, so that fp32 and bf16 copies of the same weights have one fingerprint.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(parameters, key=lambda named: named[0]):
        values = tensor.detach().reshape(-1)
        sample = values[:: max(1, len(values) // _VALUES)][:_VALUES].to(torch.bfloat16).cpu().view(torch.int16)
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(sample.numpy().astype("<i2").tobytes())
    return digest.hexdigest()[:_DIGITS]
