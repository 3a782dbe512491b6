"""Pooling of token vectors into one vector per text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Pooler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the unmasked tokens, summed in float32."""
    return _sum(hidden, mask) / _count(mask)


def mean_sqrt_len(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum over the unmasked tokens, divided by the square root of their number."""
    return _sum(hidden, mask) / _count(mask).sqrt()


def weightedmean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Weighted mean in which the first token has weight 1, the second 2, and so on."""
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _sum(hidden, weights) / _count(weights)


def maximum(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Maximum of each component over the unmasked tokens."""
    return hidden.float().masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def cls(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """First unmasked token."""
    return _at(hidden, mask.argmax(dim=1))


def last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Last unmasked token."""
    return _at(hidden, (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=1))


POOLERS: Mapping[str, Pooler] = {
    "mean": mean,
    "cls": cls,
    "last": last,
    "lasttoken": last,
    "max": maximum,
    "weightedmean": weightedmean,
    "mean_sqrt_len": mean_sqrt_len,
}
"""Poolers by their name in the settings. The mask is 1 for pooled tokens, 0 for padding and an excluded prompt."""


def joined(poolers: Sequence[Pooler]) -> Pooler:
    """Concatenate the vectors of several poolers."""
    if len(poolers) == 1:
        return poolers[0]
    return lambda hidden, mask: torch.cat([pooler(hidden, mask) for pooler in poolers], dim=-1)


def _sum(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (hidden.float() * weights.unsqueeze(-1).float()).sum(dim=1)


def _count(weights: torch.Tensor) -> torch.Tensor:
    return weights.sum(dim=1, keepdim=True).clamp(min=1).float()


def _at(hidden: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, index].float()
