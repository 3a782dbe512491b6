"""A model backend in one file: a text's vector is the mean of its words' vectors.

A word's vector is a row of a seeded random table, chosen by the word's checksum. So texts with words in common have
similar vectors, there is nothing to download, and every method that a backend needs is here. In ``legit.toml``:

    [models.words]
    kind = "text"
    backend = "hashed_words:HashedWords"
    options = { dim = 128 }

The module has to be importable where the worker starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch.nn import functional

from legit_embedding import Prepared
from legit_embedding.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from legit_embedding import Backend, Recipe
    from legit_embedding.config import Kind, ModelConfig

ROWS = 1 << 14
"""The number of rows of the table; row 0 stands for a text without words."""
MAX_TOKENS = 256
SEED = 20_000
HANDOFF_ROWS = 2


class HashedWords:
    """The backend: holds the weights, and is used by the device loop's thread only.

    Args:
        name: the model's name in the registry.
        config: its settings.

    Raises:
        ConfigError: a setting that this backend does not have.
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        self.name = name
        self.config = config
        if config.kind != "text":
            message = f"models.{name}.kind: this backend embeds texts, so it must be 'text'"
            raise ConfigError(message)
        self._dim = _read_dim(name, config.options)
        self._limit = config.max_tokens or MAX_TOKENS
        self._table: torch.Tensor | None = None

    @property
    def kind(self) -> Kind:
        """The kind that the model embeds."""
        return "text"

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._dim

    def recipe(self) -> Recipe:
        """Make the half that prep threads use."""
        return WordRecipe(self._limit, truncate=self.config.truncate)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Put the table onto the device."""
        generator = torch.Generator().manual_seed(SEED)
        self._table = torch.randn(ROWS, self._dim, generator=generator).to(device, dtype)

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Pad on the right, to the longest text."""
        longest = max(map(len, arrays))
        ids = np.zeros((len(arrays), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, array in enumerate(arrays):
            ids[row, : len(array)] = array
            mask[row, : len(array)] = 1
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Average the words' vectors; row n of the result belongs to row n of the batch."""
        if self._table is None:
            message = "forward before load"
            raise RuntimeError(message)
        mask = inputs["attention_mask"].unsqueeze(-1)
        vectors = (functional.embedding(inputs["input_ids"], self._table) * mask).sum(dim=1) / mask.sum(dim=1)
        vectors = vectors.float()
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Texts as long as the cost allows, for warming up and for measuring memory."""
        length = max(1, min(cost, self._limit))
        return [np.arange(length, dtype=np.int64) % ROWS] * max(1, cost // length)


class WordRecipe:
    """The recipe: turns texts into row numbers, in many threads at once, without the table.

    Args:
        max_tokens: how many words a text may have.
        truncate: whether a longer text is cut, or prepared so that the caller refuses it.
    """

    def __init__(self, max_tokens: int, *, truncate: bool) -> None:
        self.max_tokens = max_tokens
        self._truncate = truncate

    def image(self, data: bytes, max_pixels: int) -> Prepared:  # noqa: ARG002 - the protocol's signature
        """Never called: the pipeline sends this model texts only."""
        message = "a text model prepares no images"
        raise TypeError(message)

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        """Number the words of each text.

        Raises:
            TaskError: ``invalid_task`` where a task names a prompt, which this model does not have.
        """
        if any(prompts):
            raise TaskError("invalid_task", "prompt_name: this model has no prompts")
        return [self._prepare(text) for text in texts]

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Accept int64 ``[2, L]``: row numbers and their mask, as a prep-only worker leaves them.

        Raises:
            TaskError: ``handoff_refused``, before any data is read.
        """
        if dtype != np.int64 or len(shape) != HANDOFF_ROWS or shape[0] != HANDOFF_ROWS or shape[1] > self.max_tokens:
            expected = f"int64 [2, L] with L up to {self.max_tokens}"
            raise TaskError("handoff_refused", f"the model takes {expected}, not {dtype} {list(shape)}")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Take the row numbers that a prep-only worker left.

        Raises:
            TaskError: ``handoff_refused``.
        """
        self.check_handoff(array.dtype, array.shape)
        rows = array[0][array[1] != 0]
        if not len(rows) or rows.min() < 0 or rows.max() >= ROWS:
            raise TaskError("handoff_refused", f"the model takes 1 to {self.max_tokens} numbers from 0 to {ROWS - 1}")
        return Prepared(rows, cost=len(rows))

    def _prepare(self, text: str) -> Prepared:
        words = text.lower().split()
        rows = [1 + crc32(word.encode("utf-8", "replace")) % (ROWS - 1) for word in words[: self.max_tokens]] or [0]
        is_too_long = len(words) > self.max_tokens
        # A cost above the limit is what makes the caller refuse a text.
        cost = len(words) if is_too_long and not self._truncate else len(rows)
        return Prepared(np.array(rows, np.int64), cost=cost, truncated=is_too_long)


def _read_dim(name: str, options: Mapping[str, Any]) -> int:
    unknown = options.keys() - {"dim"}
    dim = options.get("dim", 128)
    if unknown or type(dim) is not int or dim < 1:
        message = f"models.{name}.options: expected dim, a positive integer, and nothing else; got {dict(options)}"
        raise ConfigError(message)
    return dim


if TYPE_CHECKING:
    _backend: type[Backend] = HashedWords
    """Lets a type checker compare the class with the protocol."""
