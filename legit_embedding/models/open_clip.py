"""open_clip backend: image encoders, and the entry point for models with two towers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from torch.nn import functional

from legit_embedding.models.identified import Identified
from legit_embedding.models.open_clip_checkpoint import OpenClipCheckpoint
from legit_embedding.models.open_clip_texts import OpenClipTexts
from legit_embedding.models.pixels import Pixels, noise
from legit_embedding.models.recipes import ImageRecipe
from legit_embedding.models.settings import Options, read_options, require_kind
from legit_embedding.prep.images.image import ImageTransform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from legit_embedding.models.architecture import Architecture
    from legit_embedding.models.backend import Backend
    from legit_embedding.models.config import Kind, ModelConfig


class OpenClipOptions(Options):
    """Options of this backend under ``models.NAME.options``."""

    exact: bool = False
    """Decodes and resizes exactly as open_clip does, at a quarter of the speed."""


class OpenClipModel(Identified["OpenClipCheckpoint"]):
    """Image tower of an open_clip model. See `OpenClipCheckpoint` for the meaning of the settings.

    Args:
        name: the model's name.
        config: its settings, for this tower.
        checkpoint: the checkpoint shared with the other tower, if that is served too.
    """

    kind: Final[Kind] = "image"

    def __init__(self, name: str, config: ModelConfig, checkpoint: OpenClipCheckpoint | None = None) -> None:
        require_kind(name, config, "image")
        self.name = name
        self.config = config
        self._options = read_options(name, config, OpenClipOptions)
        self._checkpoint = checkpoint or OpenClipCheckpoint(name, config)
        self._visual: torch.nn.Module | None = None

    @classmethod
    def towers(cls, name: str, config: ModelConfig) -> dict[Kind, Backend]:
        """Make a backend for each kind that the settings name; they share one checkpoint, loaded once."""
        read_options(name, config, OpenClipOptions)
        checkpoint = OpenClipCheckpoint(name, config)
        made: dict[Kind, Backend] = {}
        for kind in config.serves:
            half = cls if kind == "image" else OpenClipTexts
            made[kind] = half(name, config.only(kind), checkpoint)
        return made

    @property
    def dim(self) -> int:
        """Vector length."""
        return self._architecture.dim

    def recipe(self) -> ImageRecipe:
        """Make the image recipe; needs neither weights nor a device."""
        wanted = self._architecture
        transform = ImageTransform(
            size=wanted.size,
            resize_mode=wanted.resize_mode,
            interpolation=wanted.interpolation,
            fill_color=wanted.fill_color,
            exact=self._options.exact,
        )
        return ImageRecipe(transform.read, wanted.size)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights onto the device."""
        self._pixels.to(device)
        self._dtype = dtype
        self._visual = self._checkpoint.tower("image").to(device=device, dtype=dtype)

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Stack the images. If some are already normalised, the others are normalised here to match."""
        return self._pixels.collate(arrays)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Normalise the pixels, encode one batch and normalise its vectors."""
        if self._visual is None:
            raise RuntimeError("forward before load")
        features = self._visual(self._pixels.read(inputs["pixels"], self._dtype))
        if isinstance(features, tuple):  # CoCa also returns its tokens
            features = features[0]
        vectors: torch.Tensor = features.float()
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Return as many images as the cost, all with the same noise."""
        return noise(cost, self._architecture.size)

    @property
    def _architecture(self) -> Architecture:
        return self._checkpoint.architecture

    @cached_property
    def _pixels(self) -> Pixels:
        return Pixels(self._architecture.mean, self._architecture.std)
