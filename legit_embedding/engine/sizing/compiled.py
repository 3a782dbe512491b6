"""Forward passes compiled by torch, as `engine.compile` says."""

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
"""The second tells torch what may vary; a batch of one is always a graph of its own."""
_GRAPHS = 64
"""How many graphs torch may keep of one function: the models of a process share theirs."""
_OPTIONS: dict[str, Any] = {"shape_padding": True}
"""Matrices whose sides are no multiples of 8 (EVA02's have 2,730 columns) are padded for the tensor cores."""


def keep_graphs(folder: Path | None) -> None:
    """Have torch keep what it compiles in this folder, for the next start; None: where torch would.

    Raises:
        ConfigError: nothing can be written there.
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
    """Compile what the model repeats, for any batch; None where it repeats nothing.

    All the blocks share their graphs: one is compiled instead of dozens, in seconds instead of minutes.
    """
    found = Blocks.of(backend)
    if found is not None:
        _allow_graphs()
        found.compile()
        warm_up(device, backend, backend.forward)
    return found


def whole(device: Device, backend: Backend) -> Forward:
    """Compile the forward pass as one, for any batch."""
    _allow_graphs()
    forward = torch.compile(backend.forward, dynamic=True, options=_OPTIONS)
    warm_up(device, backend, forward)
    return forward


def warm_up(device: Device, backend: Backend, forward: Forward) -> None:
    """Have every graph compiled now, and none while items wait."""
    for cost in _WARM_COSTS[backend.kind]:
        run(device, backend, forward, backend.samples(cost))


class Blocks:
    """The layers that a model applies one after the other, all of one class.

    Args:
        modules: the layers.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    @classmethod
    def of(cls, backend: Backend) -> Blocks | None:
        """The longest such row in the modules that a backend holds."""
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
        """From the next call on, run what torch makes of them."""
        for module in self.modules:
            module.compile(options=_OPTIONS)

    def restore(self) -> None:
        """Run them as they are written again."""
        for module in self.modules:
            module._compiled_call_impl = None  # noqa: SLF001 - torch has no public way back

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """Run them as they are written within the block."""
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
