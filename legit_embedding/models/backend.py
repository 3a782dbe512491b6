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
    """For an image: uint8 ``[3, H, W]`` RGB, or float32 ``[3, H, W]`` already normalised (a legacy hand-off).
    For a text: int64 ``[L]`` input ids including special tokens. Ids of a prompt that pooling excludes are stored as
    their bitwise complements. Padding is present only if the model reads it like any other token."""
    cost: int
    """Cost of the item on the device: 1 for an image, ``L`` for a text."""
    truncated: bool = False
    """True if the text was truncated to the model's limit."""
    repaired: bool = False
    """True if the image was damaged and has been completed."""
    windows: tuple[Prepared, ...] = ()
    """Parts, in order, of a text that exceeds the limit and is embedded in windows; otherwise empty."""


class Recipe(Protocol):
    """Preparation of one model's items on the CPU. Thread-safe.

    A recipe serves one kind. Calling it for the other kind is a programming error and raises `TypeError`.
    """

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        """Decode and transform one image file.

        Raises:
            TaskError: ``undecodable``, or ``too_large`` beyond `max_pixels`.
        """

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        """Tokenise several texts at once. An empty or blank text yields the model's special tokens.

        A text that exceeds the model's limit is cut and marked as truncated. If the model's ``overflow`` is ``refuse``,
        it is also marked, its ``cost`` is above `max_tokens`, and the caller must refuse it; its array may hold only
        its beginning. If ``overflow`` is ``mean``, only the item's `windows` are embedded.

        Args:
            texts: the texts as given in the tasks.
            prompts: the name of each text's prompt, None for the default prompt; empty if no task names one.

        Raises:
            TaskError: ``invalid_task`` if the model lacks one of the prompts; the error applies to all the texts.
        """

    @property
    def max_tokens(self) -> int:
        """Maximum text length in tokens, including special tokens; 0 for an image model."""

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Check a hand-off's header before its data is read.

        Raises:
            TaskError: ``handoff_refused`` if its dtype or shape does not fit the model, or it is too long to read.
        """

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Check a legacy hand-off's tensor: an image float32 ``[3, H, W]``, a text int64 ``[2, L]`` (ids, mask).

        Raises:
            TaskError: ``handoff_refused`` if its shape, dtype, length or token ids do not fit the model.
        """


class Backend(Protocol):
    """One kind of one model. Constructed from its settings, and cheap until `load`.

    A class that serves both kinds also has a class method ``towers(name, config)``, which makes a backend for each kind
    that the settings name. A backend may have the attributes ``revision``, the commit of the model's files, and, after
    `load`, ``digest``, a fingerprint of its weights.
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        """Store the settings without reading any file.

        Raises:
            ConfigError: a setting is unknown to this backend; the message names it as ``models.NAME.field``.
        """

    name: str
    config: ModelConfig

    @property
    def kind(self) -> Kind:
        """Kind of input that the model embeds."""

    @property
    def dim(self) -> int:
        """Vector length; known after `load`."""

    def recipe(self) -> Recipe:
        """Make the recipe. Needs neither weights nor a device; `Registry.recipe` keeps one per model.

        Raises:
            ConfigError: a file that the recipe reads (a tokenizer, a configuration) is missing.
        """

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights onto the device, ready for inference. Called once, by the device loop's thread.

        Raises:
            ConfigError: the model cannot be loaded, with a one-line reason.
        """

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Collate one batch of CPU tensors.

        Images: ``pixels`` ``[n, 3, H, W]``, uint8, or float32 and normalised if any item is normalised.
        Texts: ``input_ids`` and ``attention_mask``, int64 ``[n, L]``, padded on the right.
        """

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Embed one batch on the device: float32 ``[n, dim]``, L2-normalised unless the settings disable it."""

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Return sample arrays of about this batch cost and realistic shapes, for warm-up and measurement."""
