"""Hugging Face transformers backend: image encoders."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional

from legit_embedding.models.identified import Identified
from legit_embedding.models.pixels import noise
from legit_embedding.models.processing import ProcessorTransform, read_processor
from legit_embedding.models.recipes import ImageRecipe
from legit_embedding.models.settings import Options, misconfigured, read_options, require_kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from legit_embedding.models.checkpoint import Checkpoint
    from legit_embedding.models.config import Kind, ModelConfig

_POOLINGS = ("cls", "mean", "pooler")


class TransformersImages(Identified["Checkpoint"]):
    """Image encoder, or the image tower of a two-tower model. See `Checkpoint` for the meaning of the settings.

    For a plain encoder, ``pooling`` is ``pooler`` (the model's own), ``cls`` (the first token) or ``mean`` (over the
    patches). If it is not set, the model's own is used, or ``cls`` if the checkpoint has none.
    """

    kind: Final[Kind] = "image"

    def __init__(self, name: str, config: ModelConfig, checkpoint: Checkpoint) -> None:
        require_kind(name, config, "image")
        read_options(name, config, Options)
        self.name = name
        self.config = config
        self._checkpoint = checkpoint
        self._model: PreTrainedModel | None = None
        self._dim: int | None = None

    @property
    def dim(self) -> int:
        """Vector length."""
        if self._dim is None:
            raise RuntimeError("the length of a vector is known after load")
        return self._dim

    def recipe(self) -> ImageRecipe:
        """Make the image recipe; needs neither weights nor a device."""
        return ImageRecipe(self._transform.read, self._transform.size)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights and the pixel constants onto the device, and choose the pooling."""
        self._transform.pixels.to(device)
        self._dtype = dtype
        self._model = self._checkpoint.model(dtype).to(device)  # type: ignore[arg-type]
        self._pooling = self._chosen_pooling()
        with torch.inference_mode():
            sample = {name: tensor.to(device) for name, tensor in self.collate(self.samples(1)).items()}
            self._dim = self.forward(sample).shape[1]

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Stack the images."""
        return self._transform.pixels.collate(arrays)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Normalise the pixels, encode one batch and normalise its vectors."""
        if self._model is None:
            raise RuntimeError("forward before load")
        pixels = self._transform.pixels.read(inputs["pixels"], self._dtype)
        vectors = self._vectors(self._model, pixels).float()
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Return as many images as the cost, all with the same noise."""
        return noise(cost, self._transform.size)

    @cached_property
    def _transform(self) -> ProcessorTransform:
        _ = self._checkpoint.family
        return read_processor(self._checkpoint)

    def _chosen_pooling(self) -> str | None:
        wanted = self.config.pooling
        if self._checkpoint.family.is_pair:
            if wanted not in {None, "pooler"}:
                reason = f"a model with two towers has its own way to one vector, so {wanted!r} cannot be; leave it out"
                raise misconfigured(self.name, "pooling", reason)
            return None
        if wanted is None:
            return "pooler" if self._checkpoint.has_pooler else "cls"
        if wanted not in _POOLINGS:
            raise misconfigured(self.name, "pooling", f"of an image model it is one of {', '.join(_POOLINGS)}")
        if wanted == "pooler" and not self._checkpoint.has_pooler:
            raise misconfigured(self.name, "pooling", "the checkpoint has no weights for the model's own pooler")
        return wanted

    def _vectors(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        if self._pooling is None:
            whole: Any = model
            features = whole.get_image_features(pixel_values=pixels)
            vectors: torch.Tensor = getattr(features, "pooler_output", features)
            return vectors
        outputs = model(pixel_values=pixels)
        hidden: torch.Tensor = outputs.last_hidden_state
        pooled: torch.Tensor | None = getattr(outputs, "pooler_output", None)
        if self._pooling == "pooler" and pooled is not None:
            return pooled.flatten(1)
        if hidden.ndim > 3:  # noqa: PLR2004 - channels, height and width: a model without tokens
            return hidden.float().mean(dim=(-2, -1))
        if self._pooling == "mean":
            return hidden[:, hidden.shape[1] - self._patches :].float().mean(dim=1)
        return hidden[:, 0]

    @property
    def _patches(self) -> int:
        """Return the number of patch tokens; all other tokens precede them."""
        size, patch = self._transform.size, self._checkpoint.architecture.patch_size
        high, wide = (patch, patch) if isinstance(patch, int) else patch
        return (size[0] // high) * (size[1] // wide)
