"""Attention masks created without reading from the device."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

if TYPE_CHECKING:
    from collections.abc import Callable

_MAKERS: dict[str, Callable[..., Any]] = {"sdpa": sdpa_mask, "eager": eager_mask}
_SKIPS = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}


def make_masks_blindly() -> None:
    """Make transformers create a mask for every batch in this process, padded or not.

    By default it omits masks that hide nothing, and to find out it reads the padding back from the device, so the
    launching thread would wait for the device on every batch. Nearly every batch is padded, so omitting masks saves
    little. The masks themselves are still made by transformers for every kind of model: causal, sliding or plain.
    """
    for name, maker in _MAKERS.items():
        AttentionMaskInterface.register(name, partial(_without_skips, maker))


def _without_skips(maker: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the makers' own
    return maker(*args, **(options | _SKIPS))
