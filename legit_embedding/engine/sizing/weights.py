"""Size of a model's weights."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from legit_embedding.models.backend import Backend


def weights_bytes(backend: Backend) -> int | None:
    """Return the bytes of the parameters and buffers in the modules that a backend holds; None if it holds no module.

    Storage that several tensors share counts once.
    """
    modules = [held for held in vars(backend).values() if isinstance(held, nn.Module)]
    tensors = chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values()) if modules else None
