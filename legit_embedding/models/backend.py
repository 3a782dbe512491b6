"""Interfaces between models and the rest of the worker.

A model has two parts. Its *recipe* prepares items on the CPU, in many threads at once, and never needs the weights.
The *backend* holds the weights and is used only by the device loop's thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from legit_embedding.models.config import Kind, ModelConfig


@dataclass(frozen=True, slots=True)
class Prepared:
    """Item prepared for the device, still on the CPU."""

    array: NDArray[np.generic]
    """An image: uint8 ``[3, H, W]`` RGB, or float32 ``[3, H, W]`` already normalised (a legacy hand-off).
    A text: int64 ``[L]`` input ids, special tokens included; those of a prompt that its pooling leaves out are stored
    as their bitwise complements. Padding is only there where the model reads it like any other token."""
    cost: int
    """What the item costs the device: 1 for an image, ``L`` for a text."""
    truncated: bool = False
    """Whether the text was cut to the model's limit."""
    repaired: bool = False
    """Whether the image was damaged and has been completed."""
    windows: tuple[Prepared, ...] = ()
    """Of a text that is longer than the limit and embedded all the same: its parts, in order; none of any other."""


class Recipe(Protocol):
    """How one model's items are prepared: CPU only, safe to call from many threads at once.

    A recipe serves one kind: asking it for the other is a mistake of the program and raises `TypeError`.
    """

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        """Decode and transform one image file.

        Raises:
            TaskError: ``undecodable``, or ``too_large`` beyond `max_pixels`.
        """

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        """Tokenise several texts at once; an empty or blank one becomes the model's special tokens.

        A text beyond the model's limit is cut and marked. Where the model's ``overflow`` is ``refuse`` it is marked all
        the same, its ``cost`` is above `max_tokens`, and the caller must refuse it; its array may hold only its
        beginning. Where it is ``mean`` the item has `windows`, and what it holds besides is not embedded.

        Args:
            texts: as the tasks say them.
            prompts: the name of each text's prompt, None for the default one; nothing where no task names any.

        Raises:
            TaskError: ``invalid_task`` where the model has no such prompt, for all of them together.
        """

    @property
    def max_tokens(self) -> int:
        """The longest text, in tokens, special tokens included; 0 for an image model."""

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Check what a hand-off's header says, before its data is read.

        Raises:
            TaskError: ``handoff_refused`` when its dtype or shape does not fit the model, or it is too long to read.
        """

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Check a legacy hand-off's tensor: an image float32 ``[3, H, W]``, a text int64 ``[2, L]`` (ids, mask).

        Raises:
            TaskError: ``handoff_refused`` when its shape, dtype, length or token ids do not fit the model.
        """


class Backend(Protocol):
    """One kind of one model. Made with its settings; cheap until `load`.

    A class that serves both kinds has a class method ``towers(name, config)`` as well, which makes a backend for each
    kind that the settings name. Where a backend knows them it has ``revision``, the commit of the model's files, and,
    from `load` on, ``digest``, a fingerprint of its weights.
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        """Keep the settings; read nothing yet.

        Raises:
            ConfigError: a setting that this backend does not have, named as ``models.NAME.field``.
        """

    name: str
    config: ModelConfig

    @property
    def kind(self) -> Kind:
        """What the model embeds."""

    @property
    def dim(self) -> int:
        """The length of a vector; known after `load`."""

    def recipe(self) -> Recipe:
        """Make the CPU half. Needs no weights and no device; `Registry.recipe` keeps one a model.

        Raises:
            ConfigError: what the recipe reads (a tokenizer, a configuration) is not there.
        """

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights onto the device, ready for inference. Called once, by the device loop's thread.

        Raises:
            ConfigError: the model cannot be loaded; the reason in one line.
        """

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Make one batch of CPU tensors.

        Images: ``pixels`` ``[n, 3, H, W]``, uint8, or float32 and normalised as soon as one item is.
        Texts: ``input_ids`` and ``attention_mask``, int64 ``[n, L]``, padded on the right.
        """

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Embed one batch that is on the device: float32 ``[n, dim]``, L2-normalised unless the settings say not."""

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Arrays of about this batch cost, at real shapes: for warming up and for measuring memory."""
