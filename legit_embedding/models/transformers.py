"""Hugging Face transformers backend: text encoders, and the entry point for models with two towers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional

from legit_embedding.models.attention import make_masks_blindly
from legit_embedding.models.checkpoint import Checkpoint
from legit_embedding.models.collating import padded
from legit_embedding.models.identified import Identified
from legit_embedding.models.layers import stacked
from legit_embedding.models.pooling import POOLERS, joined
from legit_embedding.models.settings import Options, misconfigured, read_options, require_kind
from legit_embedding.models.tokenizing import make_recipe
from legit_embedding.models.transformers_images import TransformersImages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from legit_embedding.models.backend import Backend
    from legit_embedding.models.config import Kind, ModelConfig
    from legit_embedding.models.recipes import TextRecipe

_OWN_HEAD = "pooler"


class TransformersModel(Identified["Checkpoint"]):
    """Text encoder, or the text tower of a two-tower model. See `Checkpoint` for the meaning of the settings.

    If ``pooling`` is not set, the pooling recorded by sentence-transformers is used, or the mean if there is none. The
    layers that it records after the pooling are always applied.

    Args:
        name: the model's name.
        config: its settings, for this tower.
        checkpoint: the checkpoint shared with the other tower, if that is served too.
    """

    kind: Final[Kind] = "text"

    def __init__(self, name: str, config: ModelConfig, checkpoint: Checkpoint | None = None) -> None:
        require_kind(name, config, "text")
        read_options(name, config, Options)
        self.name = name
        self.config = config
        self._checkpoint = checkpoint or Checkpoint(name, config)
        self._model: PreTrainedModel | None = None
        self._recipe: TextRecipe | None = None
        self._dim: int | None = None

    @classmethod
    def towers(cls, name: str, config: ModelConfig) -> dict[Kind, Backend]:
        """Make a backend for each kind that the settings name; they share one checkpoint, loaded once."""
        checkpoint = Checkpoint(name, config)
        made: dict[Kind, Backend] = {}
        for kind in config.serves:
            half = cls if kind == "text" else TransformersImages
            made[kind] = half(name, config.only(kind), checkpoint)
        return made

    @property
    def dim(self) -> int:
        """Vector length."""
        if self._dim is None:
            raise RuntimeError("the length of a vector is known after load")
        return self._dim

    def recipe(self) -> TextRecipe:
        """Make the text recipe; needs neither weights nor a device."""
        if self._recipe is None:
            _ = self._checkpoint.family
            self._recipe = make_recipe(self._checkpoint)
        return self._recipe

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights and the pooling onto the device."""
        self.recipe()  # report tokenizer errors before the weights are read
        make_masks_blindly()
        if not self._checkpoint.family.is_pair:
            self._read_pooling(device)
        self._model = self._checkpoint.model(dtype).to(device)  # type: ignore[arg-type]
        if self.config.pooling == _OWN_HEAD and not self._checkpoint.has_pooler:
            raise misconfigured(self.name, "pooling", "the checkpoint has no weights for the model's own pooler")
        with torch.inference_mode():
            sample = {name: tensor.to(device) for name, tensor in self.collate(self.samples(1)).items()}
            self._dim = self.forward(sample).shape[1]

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Pad on the right to the longest text."""
        return padded(arrays, self._checkpoint.architecture.get_text_config().pad_token_id or 0)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Encode, pool and normalise one batch."""
        if self._model is None:
            raise RuntimeError("forward before load")
        vectors = self._vectors(self._model, inputs)
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Return texts of the greatest length that the cost allows, where attention needs the most memory."""
        recipe = self.recipe()
        length = recipe.length or max(1, min(cost, recipe.max_tokens))
        ids = np.arange(length, dtype=np.int64) % self._checkpoint.architecture.get_text_config().vocab_size
        return [ids] * max(1, cost // length)

    def _vectors(self, model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if self._checkpoint.family.is_pair:
            given = {} if self.recipe().length else {"attention_mask": mask}
            whole: Any = model
            features = whole.get_text_features(input_ids=ids, **given)
            vectors: torch.Tensor = getattr(features, "pooler_output", features)
            return vectors.float()
        outputs = model(input_ids=ids, attention_mask=mask)
        if self.config.pooling == _OWN_HEAD:
            vectors = outputs.pooler_output.float()
        else:
            vectors = self._pool(outputs.last_hidden_state, inputs.get("pooling_mask", mask))
        after: torch.Tensor = self._layers(vectors)
        return after

    def _read_pooling(self, device: torch.device) -> None:
        sidecar = self._checkpoint.sidecar
        if sidecar.first != "Transformer" or sidecar.before_pooling:
            wrong = ", ".join({sidecar.first: 1, **dict.fromkeys(sidecar.before_pooling)})
            reason = f"its texts pass through {wrong} before the pooling; use a model of Transformer and Pooling"
            raise self._checkpoint.cannot_load(reason)
        names = [self.config.pooling] if self.config.pooling else (sidecar.pooling or ["mean"])
        if names != [_OWN_HEAD]:
            unknown = [name for name in names if name not in POOLERS]
            if unknown:
                reason = f"the model's own pooling is {unknown[0]!r}; choose one of {', '.join(POOLERS)}"
                raise misconfigured(self.name, "pooling", reason)
            self._pool = joined([POOLERS[name] for name in names if name])
        layers: torch.nn.Module = self._checkpoint.guarded(lambda: stacked(sidecar.layers, self._checkpoint.tensors))
        self._layers = layers.to(device)
