"""Text recipes for transformers models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import normalizers
from transformers import AutoTokenizer

from legit_embedding.models.encoders import FastEncoder, SlowEncoder
from legit_embedding.models.prompts import Prompts
from legit_embedding.models.recipes import Filling, TextRecipe, Vocabulary
from legit_embedding.models.settings import misconfigured

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from legit_embedding.models.checkpoint import Checkpoint
    from legit_embedding.models.encoders import Encoder

# Used if neither the model nor its tokenizer specifies a limit. (A tokenizer without one reports 10**30.)
_USUAL_TOKENS = 512
_SANE_TOKENS = 10**7
# These number positions from the padding token's id + 1, so their tables exceed the maximum text length by that much.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
# Text towers trained with every text padded to the limit, which therefore read the padding.
_READ_PADDING = frozenset({"siglip", "siglip_text_model"})


def make_recipe(checkpoint: Checkpoint) -> TextRecipe:
    """Read the tokenizer and create the recipe.

    Raises:
        ConfigError: a file is missing or does not fit.
    """
    config, name = checkpoint.config, checkpoint.name
    tokenizer: PreTrainedTokenizerBase = checkpoint.guarded(
        lambda: AutoTokenizer.from_pretrained(checkpoint.source, **checkpoint.hub)
    )
    if not getattr(tokenizer, "is_fast", True) and checkpoint.sidecar.lower_case:
        raise checkpoint.cannot_load("its tokenizer cannot put texts into lower case first; use one of a fast kind")
    if tokenizer.is_fast and checkpoint.sidecar.lower_case:
        _put_into_lower_case(tokenizer.backend_tokenizer)
    vocabulary = _vocabulary(checkpoint, tokenizer)
    limit = _limit(checkpoint, tokenizer)
    blanks = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, 0)
    blank = next(blank for blank in blanks if blank is not None)
    reads_padding = checkpoint.architecture.model_type in _READ_PADDING
    filling = Filling(limit, blank, left=tokenizer.padding_side == "left") if reads_padding else None
    encoder: Encoder = checkpoint.guarded(lambda: _encoder(tokenizer))
    try:
        return TextRecipe(
            encoder,
            limit,
            overflow=config.beyond_limit,
            keep_end=tokenizer.truncation_side == "left",
            vocabulary=Vocabulary(vocabulary, blank),
            filling=filling,
            prompts=make_prompts(checkpoint),
        )
    except ValueError as error:
        raise misconfigured(name, "max_tokens", error) from None


def _encoder(tokenizer: PreTrainedTokenizerBase) -> Encoder:
    return FastEncoder(tokenizer.backend_tokenizer) if tokenizer.is_fast else SlowEncoder(tokenizer)


def make_prompts(checkpoint: Checkpoint) -> Prompts:
    """Combine the settings' prompts with the model's own.

    Raises:
        ConfigError: the default prompt is not one of them.
    """
    config, sidecar = checkpoint.config, checkpoint.sidecar
    default = sidecar.default_prompt if config.default_prompt is None else config.default_prompt
    try:
        return Prompts({**sidecar.prompts, **config.prompts}, default, pooled=sidecar.pools_prompt)
    except ValueError as error:
        raise misconfigured(checkpoint.name, "default_prompt", error) from None


def _limit(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the maximum text length in tokens: the setting, or sentence-transformers' limit."""
    positions = _positions(checkpoint.architecture.get_text_config())
    wanted = checkpoint.config.max_tokens
    if wanted is not None:
        if positions is not None and wanted > positions:
            raise misconfigured(checkpoint.name, "max_tokens", f"the model has only {positions} positions")
        return wanted
    own = checkpoint.sidecar.max_tokens or tokenizer.model_max_length
    known = [limit for limit in (own, positions) if limit is not None and 0 < limit < _SANE_TOKENS]
    return min(known, default=_USUAL_TOKENS)


def _vocabulary(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the vocabulary size, after checking that the model has all ids: an unknown id would break the device."""
    rows = int(checkpoint.architecture.get_text_config().vocab_size)
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= rows:
        raise checkpoint.cannot_load(f"its tokenizer makes ids up to {highest}, and the model knows {rows}")
    return rows


def _positions(config: PretrainedConfig) -> int | None:
    """Return the number of positions in the model, or None if unlimited."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return int(positions) - offset


def _put_into_lower_case(tokenizer: Tokenizer) -> None:
    given = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *given])
