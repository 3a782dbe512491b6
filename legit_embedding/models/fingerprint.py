"""Fingerprints of weights: models that share an embedding space have the same fingerprint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_VALUES = 1024
_DIGITS = 16


def fingerprint(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Hash the name, the shape and a thousand evenly spaced values of each tensor to 16 hexadecimal digits.

    Values are converted to bfloat16, so that fp32 and bf16 copies of the same weights have the same fingerprint.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(parameters, key=lambda named: named[0]):
        values = tensor.detach().reshape(-1)
        sample = values[:: max(1, len(values) // _VALUES)][:_VALUES].to(torch.bfloat16).cpu().view(torch.int16)
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(sample.numpy().astype("<i2").tobytes())
    return digest.hexdigest()[:_DIGITS]
