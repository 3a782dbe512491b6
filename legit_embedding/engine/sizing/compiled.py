"""Compilation of forward passes with torch, as configured by `engine.compile`."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from legit_embedding.engine.sizing.profile import run
from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from legit_embedding.engine.device.base import Device, Forward
    from legit_embedding.models.backend import Backend

logger = logging.getLogger(__name__)

_WARM_COSTS = {"image": (4, 8, 1), "text": (64, 1024, 4096)}
"""Warm-up costs. The second marks dimensions as dynamic for torch; a batch of one always gets its own graph."""
_GRAPHS = 64
"""Graphs that torch may keep per function; all the models of a process share this limit."""
_OPTIONS: dict[str, Any] = {"shape_padding": True}
"""Pad matrices whose dimensions are not multiples of 8 (EVA02 has 2,730 columns) for the tensor cores."""


def keep_graphs(folder: Path | None) -> None:
    """Make torch cache compiled code in this folder for later starts, or in its default location for None.

    Raises:
        ConfigError: the folder cannot be created or is not writable.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"engine.compile_cache: {folder} cannot be made: {error}"
        raise ConfigError(message) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"engine.compile_cache: nothing can be written to {folder}"
        raise ConfigError(message)
    os.environ["TORCHINDUCTOR_FX_GRAPH_CACHE"] = "1"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def by_blocks(device: Device, backend: Backend) -> Blocks | None:
    """Compile the model's repeated blocks for any batch size. Returns None if it has none.

    The blocks share their graphs, so one block is compiled instead of dozens, in seconds instead of minutes.
    """
    found = Blocks.of(backend)
    if found is not None:
        _allow_graphs()
        found.compile()
        warm_up(device, backend, backend.forward)
    return found


def whole(device: Device, backend: Backend) -> Forward:
    """Compile the whole forward pass for any batch size."""
    _allow_graphs()
    forward = torch.compile(backend.forward, dynamic=True, options=_OPTIONS)
    warm_up(device, backend, forward)
    return forward


def warm_up(device: Device, backend: Backend, forward: Forward) -> None:
    """Compile every graph now, so that none is compiled while items are waiting."""
    for cost in _WARM_COSTS[backend.kind]:
        run(device, backend, forward, backend.samples(cost))


class Blocks:
    """Consecutive layers of a model that are all of one class.

    Args:
        modules: the layers.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    @classmethod
    def of(cls, backend: Backend) -> Blocks | None:
        """Find the longest such sequence in the modules held by a backend. Returns None if there is none."""
        rows = [
            list(container)
            for held in vars(backend).values()
            if isinstance(held, nn.Module)
            for container in held.modules()
            if isinstance(container, nn.ModuleList | nn.Sequential)
        ]
        alike = [row for row in rows if len(row) > 1 and len({type(each) for each in row}) == 1]
        return cls(max(alike, key=len)) if alike else None

    def compile(self) -> None:
        """Compile the layers on their next call."""
        for module in self.modules:
            module.compile(options=_OPTIONS)

    def restore(self) -> None:
        """Return to eager execution."""
        for module in self.modules:
            module._compiled_call_impl = None  # noqa: SLF001 - torch has no public API to undo compile()

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """Run the layers eagerly within the block."""
        compiled = [module._compiled_call_impl for module in self.modules]  # noqa: SLF001
        self.restore()
        try:
            yield
        finally:
            for module, call in zip(self.modules, compiled, strict=True):
                module._compiled_call_impl = call  # noqa: SLF001


def _allow_graphs() -> None:
    config = torch._dynamo.config  # noqa: SLF001
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # torch < 2.7
    setattr(config, name, max(_GRAPHS, getattr(config, name)))
