"""Forward passes compiled by torch, where `engine.compile` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from legit_embedding.engine.plan import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.engine.device import Device, Forward, Tensors
    from legit_embedding.models.base import Backend

_ANY_COSTS = {"image": (1, 2, 8), "text": (64, 1024, 4096)}
_STEP = 4
"""Each fixed shape is so much smaller than the one above it: a few are warmed quickly, and padding is bounded."""
_GRAPHS = 64
"""How many graphs torch may keep of one function: the models of a process share theirs."""


def for_any_shape(device: Device, backend: Backend) -> Forward:
    """The forward pass, compiled for one item and for any number of them, before anything is measured."""
    torch._dynamo.config.recompile_limit = max(_GRAPHS, torch._dynamo.config.recompile_limit)  # noqa: SLF001
    forward = torch.compile(backend.forward, dynamic=True)
    for cost in _ANY_COSTS[backend.kind]:
        run(device, backend, forward, backend.samples(cost))
    return forward


def for_fixed_shapes(device: Device, backend: Backend, any_shape: Forward, largest: int) -> FixedShapes:
    """Compile the forward pass of an image model for a few numbers of images, up to a full batch, and warm it up.

    Texts differ in length too: padding both ways would cost more than fixed shapes give, so they stay as they are.
    """
    shapes = FixedShapes(backend, any_shape, sizes(largest))
    for size in shapes.sizes:
        run(device, backend, shapes, backend.samples(size))
    return shapes


def sizes(largest: int) -> list[int]:
    """From one image to a full batch, smallest first."""
    found = [largest]
    while found[-1] > 1:
        found.append(-(-found[-1] // _STEP))
    return found[::-1]


class FixedShapes:
    """Pads a batch with black images to the next of a few sizes, each of which has a graph of its own.

    Args:
        backend: the model.
        any_shape: computes batches that are larger than all of them.
        sizes: how many images, smallest first.
    """

    def __init__(self, backend: Backend, any_shape: Forward, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self._any_shape = any_shape

        # A function of its own: graphs belong to a function, and a batch would be given to the one for any shape.
        def forward(inputs: Tensors) -> torch.Tensor:
            return backend.forward(inputs)

        self._forward = torch.compile(forward, dynamic=False)

    def __call__(self, inputs: Tensors) -> torch.Tensor:
        """Embed one batch."""
        pixels = inputs["pixels"]
        size = next((size for size in self.sizes if size >= len(pixels)), None)
        if size is None:
            return self._any_shape(inputs)
        # A copy even where there is nothing to pad: a graph is also bound to how its input was made.
        padded = torch.cat([pixels, pixels.new_zeros(size - len(pixels), *pixels.shape[1:])])
        return self._forward({"pixels": padded})[: len(pixels)]
