"""Text encoders by way of Hugging Face transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from legit_embedding.models.attention import make_masks_blindly
from legit_embedding.models.checkpoint import Checkpoint
from legit_embedding.models.pooling import POOLERS
from legit_embedding.models.settings import Options, read_options, require_kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from legit_embedding.config import Kind, ModelConfig
    from legit_embedding.models.recipes import TextRecipe


class TransformersModel:
    """One text encoder.

    ``name`` is a hub id, a folder or ``package:NAME``. ``pretrained`` is empty for the weights that go with the name,
    a folder or ``package:NAME`` to take everything from there instead, or ``random:SEED``. Where ``pooling`` isn't set,
    the model's own is used, as sentence-transformers records it.
    """

    kind: Final[Kind] = "text"

    def __init__(self, name: str, config: ModelConfig) -> None:
        require_kind(name, config, "text")
        read_options(name, config, Options)
        self.name = name
        self.config = config
        self._checkpoint = Checkpoint(name, config)
        self._model: PreTrainedModel | None = None

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._checkpoint.architecture.hidden_size)

    def recipe(self) -> TextRecipe:
        """Make the tokenising half: no weights, no device."""
        return self._checkpoint.recipe

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights onto the device, and what else a batch needs."""
        checkpoint = self._checkpoint
        _ = checkpoint.recipe  # whatever is wrong with it is said before the weights are read
        make_masks_blindly()
        self._pool = POOLERS[checkpoint.pooling]
        model = checkpoint.weights(dtype)
        model.config.use_cache = False  # a decoder would keep every batch's keys and values
        self._model = model.eval().requires_grad_(False).to(device)  # type: ignore[no-untyped-call]

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Pad on the right, to the longest."""
        lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self._checkpoint.architecture.pad_token_id or 0, dtype=np.int64)
        ids[mask] = np.concatenate(arrays)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Encode, pool and normalise one batch."""
        if self._model is None:
            raise RuntimeError("forward before load")
        mask = inputs["attention_mask"]
        hidden = self._model(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        vectors = self._pool(hidden, mask)
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Texts of the greatest length that the cost allows: attention takes the most memory there."""
        length = max(1, min(cost, self._checkpoint.recipe.max_tokens))
        ids = np.arange(length, dtype=np.int64) % self._checkpoint.architecture.vocab_size
        return [ids] * max(1, cost // length)
