"""An encoder's files: its configuration, tokenizer and weights, by hub id, folder or installed package."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from tokenizers import normalizers
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from legit_embedding.errors import ConfigError
from legit_embedding.models.pooling import POOLERS
from legit_embedding.models.recipes import TextRecipe
from legit_embedding.models.settings import misconfigured
from legit_embedding.models.sidecar import Sidecar
from legit_embedding.models.weights import PACKAGE, in_package, random_seed

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from legit_embedding.config import ModelConfig

# Where neither the model nor its tokenizer says how long a text may be. (A tokenizer that does not know says 10**30.)
_USUAL_TOKENS = 512
_SANE_TOKENS = 10**7
# These count positions from the padding token's id + 1, so that their tables are so much longer than a text may be.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
# Of these only the encoder is loaded, as sentence-transformers does.
_TWO_HALVES = frozenset({"mt5", "t5", "umt5"})
# The classification head over the first token, which pooling does not read: checkpoints may come without it.
_UNUSED_WEIGHTS = ("pooler.",)


class Checkpoint:
    """What the settings of one model point to; each file is read when it is needed.

    Args:
        name: the model's name, for errors.
        config: its settings.

    Raises:
        ConfigError: here a seed that is none; later, whatever is not there or does not fit.
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        self.name = name
        self.config = config
        self._seed = random_seed(name, config)

    def weights(self, dtype: torch.dtype) -> PreTrainedModel:
        """The model, on the CPU."""
        disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            return self._pretrained(dtype) if self._seed is None else self._random(self._seed, dtype)
        except ConfigError:
            raise
        except Exception as error:  # the library raises whatever comes along; the operator gets its words
            raise self._cannot_load(error) from error

    @cached_property
    def _source(self) -> str:
        """The hub id or the folder that everything is read from."""
        own = self.config.pretrained and self._seed is None
        field, source = ("pretrained", self.config.pretrained) if own else ("name", self.config.name)
        if source.startswith(PACKAGE):
            return str(in_package(self.name, field, source, ["config.json"]).parent)
        if not source:
            raise misconfigured(self.name, "name", "expected a hub id, a folder or package:NAME")
        return source

    @cached_property
    def architecture(self) -> PretrainedConfig:
        """The model's own configuration."""
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(self._source)
        except (OSError, ValueError) as error:
            raise self._cannot_load(error) from error
        return config

    @cached_property
    def _sidecar(self) -> Sidecar:
        return Sidecar.read(self._source, self.architecture.model_type)

    @cached_property
    def recipe(self) -> TextRecipe:
        """The tokenising half."""
        tokenizer = self._tokenizer()
        backend: Tokenizer = tokenizer.backend_tokenizer
        if self._sidecar.lower_case:
            _put_into_lower_case(backend)
        blanks = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, 0)
        try:
            return TextRecipe(
                backend,
                self._limit(tokenizer),
                truncate=self.config.truncate,
                keep_end=tokenizer.truncation_side == "left",
                vocabulary=self._vocabulary(backend),
                blank=next(blank for blank in blanks if blank is not None),
            )
        except ValueError as error:
            raise misconfigured(self.name, "max_tokens", error) from None

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self._source)
        except Exception as error:  # a broken tokenizer file ends in almost any exception
            raise self._cannot_load(error) from error
        if not tokenizer.is_fast:
            raise self._cannot_load(f"its tokenizer ({type(tokenizer).__name__}) has no fast version")
        return tokenizer

    def _limit(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """The longest text in tokens: the setting, or where sentence-transformers would cut."""
        positions = _positions(self.architecture)
        wanted = self.config.max_tokens
        if wanted is not None:
            if positions is not None and wanted > positions:
                raise misconfigured(self.name, "max_tokens", f"the model has only {positions} positions")
            return wanted
        own = self._sidecar.max_tokens or tokenizer.model_max_length
        known = [limit for limit in (own, positions) if limit is not None and 0 < limit < _SANE_TOKENS]
        return min(known, default=_USUAL_TOKENS)

    def _vocabulary(self, tokenizer: Tokenizer) -> int:
        """The number of token ids, all of which the model must know: one it does not would break the device."""
        rows = int(self.architecture.vocab_size)
        highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if highest >= rows:
            raise self._cannot_load(f"its tokenizer makes ids up to {highest}, and the model knows {rows}")
        return rows

    @cached_property
    def pooling(self) -> str:
        """The pooling that the settings say, or else the model; a mean where neither does."""
        modules = ", ".join(self._sidecar.further_modules)
        if modules:
            raise self._cannot_load(f"its vectors pass through further layers ({modules}), which this backend lacks")
        own = self._sidecar.pooling
        if "pooling" in self.config.model_fields_set or own is None:
            return self.config.pooling
        if own not in POOLERS:
            reason = f"the model's own pooling is {own!r}; choose one of {', '.join(POOLERS)}"
            raise misconfigured(self.name, "pooling", reason)
        return own

    @property
    def _auto(self) -> type[AutoModel | AutoModelForTextEncoding]:
        return AutoModelForTextEncoding if self.architecture.model_type in _TWO_HALVES else AutoModel

    def _pretrained(self, dtype: torch.dtype) -> PreTrainedModel:
        model, info = self._auto.from_pretrained(self._source, dtype=dtype, output_loading_info=True)
        missing = sorted(key for key in info["missing_keys"] if not key.startswith(_UNUSED_WEIGHTS))
        if missing:  # the library would fill them with random numbers
            raise self._cannot_load(f"{len(missing)} of its weights are not in the checkpoint, {missing[0]} for one")
        return model  # type: ignore[no-any-return]

    def _random(self, seed: int, dtype: torch.dtype) -> PreTrainedModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = self._auto.from_config(self.architecture, dtype=torch.float32)  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        return model

    def _cannot_load(self, reason: object) -> ConfigError:
        field = "pretrained" if self.config.pretrained and self._seed is None else "name"
        return misconfigured(self.name, field, f"cannot load {getattr(self.config, field)!r}: {reason}")


def _positions(config: PretrainedConfig) -> int | None:
    """How many tokens the model has positions for, if that is limited."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return int(positions) - offset


def _put_into_lower_case(tokenizer: Tokenizer) -> None:
    given = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *given])
