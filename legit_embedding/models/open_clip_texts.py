"""open_clip backend: text encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import text_global_pool
from torch.nn import functional
from transformers import AutoConfig

from legit_embedding.errors import ConfigError
from legit_embedding.models.collating import padded
from legit_embedding.models.encoders import BpeEncoder, CleanedEncoder, FastEncoder, SlowEncoder
from legit_embedding.models.identified import Identified
from legit_embedding.models.prompts import Prompts
from legit_embedding.models.recipes import Filling, TextRecipe, Vocabulary
from legit_embedding.models.settings import misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from legit_embedding.models.config import Kind, ModelConfig
    from legit_embedding.models.encoders import Encoder
    from legit_embedding.models.open_clip_checkpoint import OpenClipCheckpoint

_USUAL_CONTEXT = 77
_USUAL_VOCABULARY = 49408
_POOLED_AT_A_TOKEN = frozenset({"argmax", "eos"})


class OpenClipTexts(Identified["OpenClipCheckpoint"]):
    """Text tower of an open_clip model, with the model's own tokenizer.

    If a tower has causal attention and takes the vector at the end-of-text token, or masks its padding, batches are
    padded only to their longest text. Other towers were trained to read their padding, so for them every text is padded
    to the context length, as in the library.
    """

    kind: Final[Kind] = "text"

    def __init__(self, name: str, config: ModelConfig, checkpoint: OpenClipCheckpoint) -> None:
        self.name = name
        self.config = config
        self._checkpoint = checkpoint
        self._tower: torch.nn.Module | None = None
        self._recipe: TextRecipe | None = None
        self._filler = 0

    @property
    def dim(self) -> int:
        """Vector length."""
        return self._checkpoint.architecture.dim

    def recipe(self) -> TextRecipe:
        """Make the text recipe; needs neither weights nor a device."""
        if self._recipe is None:
            self._recipe = self._made_recipe()
        return self._recipe

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the weights onto the device."""
        self.recipe()  # report tokenizer errors before the weights are read
        whole = self._checkpoint.tower("text")
        has_tower = hasattr(whole, "text")
        tower = whole.get_submodule("text") if has_tower else whole
        plain = self._reads_left_to_right or not has_tower
        self._tower = (PlainTower(tower) if plain else tower).to(device=device, dtype=dtype)

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Pad on the right to the longest text."""
        return padded(arrays, self._filler)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Encode and normalise one batch."""
        if self._tower is None:
            raise RuntimeError("forward before load")
        features = self._tower(inputs["input_ids"])
        if isinstance(features, tuple):  # CoCa also returns its tokens
            features = features[0]
        vectors: torch.Tensor = features.float()
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Return texts of the greatest length that the cost allows."""
        recipe, context = self.recipe(), self._context
        length = max(1, min(cost, recipe.max_tokens)) if self._packs else context
        ids = 1 + np.arange(length, dtype=np.int64) % (self._vocabulary - 1)
        return [ids] * max(1, cost // length)

    @property
    def _text(self) -> dict[str, Any]:
        return self._checkpoint.text

    @property
    def _context(self) -> int:
        return int(self._text.get("context_length", _USUAL_CONTEXT))

    @property
    def _reads_left_to_right(self) -> bool:
        text = self._text
        plain = not any(text.get(name) for name in ("hf_model_name", "no_causal_mask", "embed_cls"))
        return plain and text.get("pool_type", "argmax") in _POOLED_AT_A_TOKEN

    def _made_recipe(self) -> TextRecipe:
        try:
            tokenizer = open_clip.get_tokenizer(self._checkpoint.source)
            encoder, self._filler = self._encoder(tokenizer)
            self._read_vocabulary()
        except ConfigError:
            raise
        except Exception as error:  # the libraries may raise anything; the message goes to the operator
            reason = f"cannot load the tokenizer of {self.config.name!r}: {error}"
            raise misconfigured(self.name, "name", reason) from error
        # The end-of-text token has the highest id in this tokenizer only.
        own = isinstance(tokenizer, SimpleTokenizer)
        highest = self._text.get("pool_type", "argmax") == "argmax"
        self._packs = self._masks_padding or (self._reads_left_to_right and (own or not highest))
        limit, prompts = self._limit(), self._prompts()
        try:
            return TextRecipe(
                encoder,
                limit,
                overflow=self.config.beyond_limit,
                vocabulary=Vocabulary(self._vocabulary, self._filler),
                filling=None if self._packs else Filling(self._context, self._filler),
                prompts=prompts,
            )
        except ValueError as error:
            raise misconfigured(self.name, "max_tokens", error) from None

    def _prompts(self) -> Prompts:
        try:
            return Prompts(self.config.prompts, self.config.default_prompt or "")
        except ValueError as error:
            raise misconfigured(self.name, "default_prompt", error) from None

    def _limit(self) -> int:
        context, wanted = self._context, self.config.max_tokens
        if wanted is None or wanted == context:
            return context
        if wanted > context:
            raise misconfigured(self.name, "max_tokens", f"the model has only {context} positions")
        if not self._packs:
            reason = f"the model always reads its whole context of {context} tokens; leave this out"
            raise misconfigured(self.name, "max_tokens", reason)
        return wanted

    def _encoder(self, tokenizer: object) -> tuple[Encoder, int]:
        """Return the tokenizer without its truncation and padding, and its padding id."""
        if isinstance(tokenizer, SimpleTokenizer):
            tokenizer.reduction_fn = None
            return BpeEncoder(tokenizer), 0
        if not isinstance(tokenizer, HFTokenizer) or tokenizer.tokenizer_mode:
            reason = f"the tokenizer of {self.config.name!r} cannot be used here; set kind to image for the other half"
            raise misconfigured(self.name, "kinds", reason)
        inner = tokenizer.tokenizer
        encoder: Encoder = FastEncoder(inner.backend_tokenizer) if inner.is_fast else SlowEncoder(inner)
        replaced = frozenset({inner.sep_token_id} if tokenizer.strip_sep_token else ())
        return CleanedEncoder(encoder, tokenizer.clean_fn, replaced), int(inner.pad_token_id)

    def _read_vocabulary(self) -> None:
        """Read the size of the model's vocabulary, and whether it masks padding."""
        name = self._text.get("hf_model_name")
        if name:
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
            self._vocabulary, self._masks_padding = int(config.vocab_size), config.pad_token_id == self._filler
        else:
            self._vocabulary, self._masks_padding = int(self._text.get("vocab_size", _USUAL_VOCABULARY)), False


class PlainTower(torch.nn.Module):
    """open_clip's standard text tower, extended to texts shorter than its context; the library's takes full ones only.

    Args:
        tower: an open_clip model that contains the tower's parts, or the tower itself.
    """

    def __init__(self, tower: Any) -> None:  # noqa: ANN401 - two classes with the same parts
        super().__init__()
        self.attn_mask: torch.Tensor | None
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        self.register_buffer("attn_mask", tower.attn_mask, persistent=False)
        whole = hasattr(tower, "text_pool_type")
        self._pool_type: str = tower.text_pool_type if whole else tower.pool_type
        self._end: int = tower.text_eos_id if whole else tower.eos_id

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Compute one vector per text."""
        length = ids.shape[1]
        dtype = self.transformer.get_cast_dtype()
        mask = self.attn_mask[:length, :length] if self.attn_mask is not None else None
        hidden = self.token_embedding(ids).to(dtype) + self.positional_embedding[:length].to(dtype)
        hidden = self.ln_final(self.transformer(hidden, attn_mask=mask))
        pooled = text_global_pool(hidden, ids, self._pool_type, eos_token_id=self._end)
        project = self.text_projection
        if project is not None:
            pooled = project(pooled) if isinstance(project, torch.nn.Linear) else pooled @ project
        vectors: torch.Tensor = pooled
        return vectors
