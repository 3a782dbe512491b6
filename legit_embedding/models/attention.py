"""Attention masks that are made without asking the device anything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

if TYPE_CHECKING:
    from collections.abc import Callable

_MAKERS: dict[str, Callable[..., Any]] = {"sdpa": sdpa_mask, "eager": eager_mask}
_SKIPS = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}


def make_masks_blindly() -> None:
    """Have transformers make a mask for every batch of this process, whether or not the batch is padded.

    It leaves out a mask that hides nothing, and to know that it reads the padding back from the device: for every batch
    the thread that launches would wait until the device has caught up. Nearly every batch is padded, so there is little
    to save. The masks themselves are transformers' own, whatever the model: causal, sliding or plain.
    """
    for name, maker in _MAKERS.items():
        AttentionMaskInterface.register(name, partial(_without_skips, maker))


def _without_skips(maker: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the makers' own
    return maker(*args, **(options | _SKIPS))
