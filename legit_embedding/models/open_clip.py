"""Image encoders by way of open_clip."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import open_clip
import torch
from open_clip.factory import parse_model_name
from torch.nn import functional

from legit_embedding.models.architecture import Architecture
from legit_embedding.models.recipes import ImageRecipe
from legit_embedding.models.settings import Options, misconfigured, read_options, require_kind
from legit_embedding.models.stacking import stack
from legit_embedding.models.weights import PACKAGE, RANDOM, in_package, random_seed
from legit_embedding.prep.image import ImageTransform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from legit_embedding.config import Kind, ModelConfig

_BRIGHTEST = 255.0
_CHECKPOINTS = ("open_clip_model.safetensors", "*.safetensors", "*.pt", "*.pth", "*.bin")
_SAMPLE_SEED = 0


class OpenClipOptions(Options):
    """What this backend takes under ``models.NAME.options``."""

    exact: bool = False
    """Decode and resize exactly as open_clip does, at a quarter of the speed."""


class OpenClipModel:
    """The image half of one open_clip model; its text half is dropped.

    ``name`` is an architecture, ``hf-hub:ID`` or ``local-dir:PATH``. ``pretrained`` is a tag, a checkpoint's path,
    ``package:NAME`` for a checkpoint shipped in an installed package, or ``random:SEED``; with the two prefixes it is
    empty, because the name says where the weights are.
    """

    kind: Final[Kind] = "image"

    def __init__(self, name: str, config: ModelConfig) -> None:
        require_kind(name, config, "image")
        self.name = name
        self.config = config
        self._options = read_options(name, config, OpenClipOptions)
        self._seed = random_seed(name, config)
        self._visual: torch.nn.Module | None = None

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._architecture.dim

    def recipe(self) -> ImageRecipe:
        """Make the transforming half: no weights, no device."""
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
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in self._statistics)
        self._scale = (1 / (_BRIGHTEST * std)).to(device)
        self._shift = (-mean / std).to(device)
        self._dtype = dtype
        self._visual = self._create().eval().requires_grad_(False).to(device=device, dtype=dtype)

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Stack the images; where some are normalised already, the others are normalised here to go with them."""
        if len({array.dtype for array in arrays}) > 1:
            arrays = [self._normalised(array) for array in arrays]
        return {"pixels": torch.from_numpy(stack(arrays))}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Normalise the pixels, encode, and normalise the vectors of one batch."""
        if self._visual is None:
            raise RuntimeError("forward before load")
        pixels = inputs["pixels"]
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().mul_(self._scale).add_(self._shift)
        features = self._visual(pixels.to(self._dtype))
        if isinstance(features, tuple):  # CoCa's tokens come along
            features = features[0]
        vectors: torch.Tensor = features.float()
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """As many images as the cost, all the same noise."""
        shape = (3, *self._architecture.size)
        return [np.random.default_rng(_SAMPLE_SEED).integers(0, 256, shape, np.uint8)] * max(1, cost)

    @cached_property
    def _architecture(self) -> Architecture:
        try:
            return Architecture.read(self.config.name, self.config.pretrained)
        except Exception as error:  # the library raises whatever comes along; the operator gets its words
            raise misconfigured(self.name, "name", f"cannot load {self.config.name!r}: {error}") from error

    @property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._architecture.mean, self._architecture.std

    def _normalised(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        if array.dtype != np.uint8:
            return array
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in self._statistics)
        return (array.astype(np.float32) / np.float32(_BRIGHTEST) - mean) / std

    def _create(self) -> torch.nn.Module:
        """The visual tower; the rest of the model goes when this returns."""
        _ = self._architecture  # a wrong name is said before a wrong checkpoint
        checkpoint = self._checkpoint() if self._seed is None else None
        try:
            model = self._pretrained(checkpoint) if self._seed is None else self._random(self._seed)
        except Exception as error:
            field = "pretrained" if checkpoint else "name"
            reason = f"cannot load {getattr(self.config, field)!r}: {error}"
            raise misconfigured(self.name, field, reason) from error
        return model.get_submodule("visual")

    def _pretrained(self, checkpoint: str | None) -> torch.nn.Module:
        model: torch.nn.Module = open_clip.create_model(
            self.config.name, checkpoint, require_pretrained=True, weights_only=True
        )
        return model

    def _random(self, seed: int) -> torch.nn.Module:
        # Drawn on the CPU and in float32, the same seed gives the same weights on every device and in every precision.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: torch.nn.Module = open_clip.create_model(self.config.name, load_weights=False, pretrained_text=False)
        return model

    def _checkpoint(self) -> str | None:
        """What open_clip is to load: a tag, a path, or nothing where the name says it."""
        name, pretrained = self.config.name, self.config.pretrained
        if parse_model_name(name)[0] is not None:
            if pretrained:
                reason = f"{name!r} brings its own weights, so this must be empty, or {RANDOM}SEED"
                raise misconfigured(self.name, "pretrained", reason)
            return None
        if pretrained.startswith(PACKAGE):
            return str(in_package(self.name, "pretrained", pretrained, _CHECKPOINTS))
        cleaned = name.replace("/", "-")
        if not (open_clip.get_pretrained_cfg(cleaned, pretrained) or Path(pretrained).is_file()):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(cleaned)) or "none"
            reason = f"{pretrained!r} is neither a checkpoint's path nor a tag of {name!r}; its tags: {tags}"
            raise misconfigured(self.name, "pretrained", reason)
        return pretrained
