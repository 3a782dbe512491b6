"""From one vector a token to one vector a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens that are not padding, summed in float32."""
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def cls(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - one signature for all
    """The first token."""
    return hidden[:, 0].float()


def last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last token that is not padding, with the padding on the right."""
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, mask.sum(dim=1) - 1].float()


POOLERS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"mean": mean, "cls": cls, "last": last}
