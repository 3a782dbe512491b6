"""Recipes: CPU preparation of images into pixels and of texts into token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from legit_embedding.errors import TaskError
from legit_embedding.models.backend import Prepared
from legit_embedding.models.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from legit_embedding.models.config import Overflow
    from legit_embedding.models.encoders import Encoder

_CHANNELS = 3
_HANDOFF_ROWS = 2

# Ordinary text has four to five characters per token; the margin must exceed WordPiece's longest word, 100 characters.
CHARACTERS_PER_TOKEN = 6
MARGIN = 128
GROWTH = 4
LONGEST_PART = 1 << 20
LONGEST_PADDED = 1 << 16
NO_PROMPTS = Prompts()


class ImageRecipe:
    """Decodes and transforms images for one model.

    Args:
        transform: converts a file's bytes, given the maximum number of pixels, to uint8 ``[3, H, W]`` and a flag that
            is True if the image was damaged and has been completed.
        size: the model's ``(H, W)``.
    """

    max_tokens = 0

    def __init__(
        self, transform: Callable[[bytes, int], tuple[NDArray[np.uint8], bool]], size: tuple[int, int]
    ) -> None:
        self._transform = transform
        self._shape = (_CHANNELS, *size)

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        """Decode and transform one image file."""
        pixels, repaired = self._transform(data, max_pixels)
        return Prepared(pixels, cost=1, repaired=repaired)

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> NoReturn:  # noqa: ARG002
        """Raise `TypeError`: an image model prepares no texts."""
        raise TypeError("an image model prepares no texts")

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Refuse any shape other than the model's."""
        if dtype not in (np.float32, np.uint8) or shape != self._shape:
            expected = f"float32 or uint8 {list(self._shape)}"
            raise TaskError("handoff_refused", f"the model takes {expected}, not {dtype} {list(shape)}")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Accept normalised float32 pixels (from a legacy prep worker) or uint8 ones (from our prep-only worker)."""
        self.check_handoff(array.dtype, array.shape)
        return Prepared(np.ascontiguousarray(array), cost=1)


class Vocabulary(NamedTuple):
    """Token ids known to a model."""

    size: int
    """Number of ids, starting from 0."""
    blank: int = 0
    """Token used for a text without any tokens, not even special ones."""


class Filling(NamedTuple):
    """Padding of texts to a fixed length."""

    length: int
    token: int
    """Padding token id."""
    left: bool = False
    """True to pad on the left."""


class TextRecipe:
    """Tokenises texts for one model.

    Texts are cut to the limit here, between their special tokens, exactly as the tokenizer's own truncation would.

    Tokenising takes time and memory in proportion to the text, but a model reads only the first few hundred tokens. So
    only a part of the text is tokenised, and it is enlarged until it yields the limit plus a margin of tokens. The rest
    of the text can only change tokens near the cut (a cut word, a merge, an accent), never those a whole margin away
    from it, so the result equals that of the whole text. If even the longest allowed part yields too few tokens (a
    million spaces, one word of a million letters), the text is treated as cut there.

    Args:
        encoder: the tokenizer.
        limit: the maximum text length in tokens, including special tokens.
        overflow: the handling of longer texts: truncate, mark for refusal by the caller, or split into windows.
        keep_end: truncate the beginning of a text instead of its end.
        vocabulary: the ids known to the model.
        filling: the padding of every text, for a model that reads its padding.
        prompts: the model's prompts.

    Raises:
        ValueError: the limit leaves no room for the text between the special tokens.
    """

    def __init__(
        self,
        encoder: Encoder,
        limit: int,
        *,
        vocabulary: Vocabulary,
        overflow: Overflow = "truncate",
        keep_end: bool = False,
        filling: Filling | None = None,
        prompts: Prompts = NO_PROMPTS,
    ) -> None:
        self._encoder = encoder
        self._limit = limit
        self._overflow = overflow
        self._keep_end = keep_end
        self._vocabulary = vocabulary
        self._filling = filling
        self._prompts = prompts
        self._head, self._tail = encoder.head, encoder.tail
        self._prompt_tokens: dict[str, int] = {}
        if limit <= self._head + self._tail:
            message = f"{limit} tokens leave no room for a text beside {self._head + self._tail} special tokens"
            raise ValueError(message)
        self._enough = limit + MARGIN
        self._first_part = max(encoder.least_window, CHARACTERS_PER_TOKEN * self._enough)

    @property
    def max_tokens(self) -> int:
        """Maximum text length in tokens, including special tokens."""
        return self._limit

    @property
    def releases_gil(self) -> bool:
        """True if other threads run Python code while texts are tokenised."""
        return self._encoder.releases_gil

    @property
    def length(self) -> int:
        """Fixed length of texts if all are padded to it, otherwise 0."""
        return self._filling.length if self._filling is not None else 0

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        """Tokenise several texts at once, each preceded by its prompt."""
        names = prompts or [None] * len(texts)
        before = [self._prompts.text(name) for name in names]
        whole = [prompt + text for prompt, text in zip(before, texts, strict=True)]
        parts = [len(text) if self._overflow == "mean" else self._first_part for text in whole]
        parts = [min(part, LONGEST_PART) for part in parts]
        encoded = self._encoder([self._part(text, part) for text, part in zip(whole, parts, strict=True)])
        return [
            self._prepared(*self._enlarged(text, part, ids), prompt)
            for text, part, ids, prompt in zip(whole, parts, encoded, before, strict=True)
        ]

    def image(self, data: bytes, max_pixels: int) -> NoReturn:  # noqa: ARG002 - the protocol's signature
        """Raise `TypeError`: a text model prepares no images."""
        raise TypeError("a text model prepares no images")

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Refuse anything other than ids and mask, and excessive padding."""
        if dtype != np.int64 or len(shape) != _HANDOFF_ROWS or shape[0] != _HANDOFF_ROWS:
            raise TaskError("handoff_refused", f"the model takes int64 [2, L], not {dtype} {list(shape)}")
        if shape[1] > LONGEST_PADDED:
            raise TaskError("handoff_refused", f"the model takes at most {LONGEST_PADDED} tokens and padding together")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Accept a prep worker's token ids, without their padding.

        The second row is the attention mask. For a text in windows, our own prep workers store each token's window
        number in it, starting from 1.
        """
        self.check_handoff(array.dtype, array.shape)
        ids, numbers = array
        used = np.unique(numbers[numbers != 0])
        if not np.array_equal(used, np.arange(1, len(used) + 1)):
            raise TaskError("handoff_refused", "the second row is neither an attention mask nor windows from 1 on")
        windows = tuple(self._taken(ids[numbers == number]) for number in range(1, max(1, len(used)) + 1))
        return windows[0] if len(windows) == 1 else Prepared(windows[0].array, windows[0].cost, windows=windows)

    def _taken(self, row: NDArray[np.generic]) -> Prepared:
        ids = row.astype(np.int64)
        if not 0 < len(ids) <= max(self._limit, self.length):
            raise TaskError("handoff_refused", f"the model takes 1 to {self._limit} tokens, not {len(ids)}")
        # An id outside the embedding table would break the device for all other tasks.
        known = ids if self._prompts.pooled else np.where(ids < 0, ~ids, ids)
        if known.min() < 0 or known.max() >= self._vocabulary.size:
            raise TaskError("handoff_refused", f"the model's token ids are 0 to {self._vocabulary.size - 1}")
        return self._filled(ids, truncated=False)

    def _part(self, text: str, size: int) -> str:
        return _legible(text[-size:] if self._keep_end else text[:size])

    def _enlarged(self, text: str, part: int, ids: list[int]) -> tuple[list[int], bool]:
        """Enlarge the part as needed. Returns the ids, and True if even the longest part was too short."""
        while len(ids) < self._enough and part < min(len(text), LONGEST_PART):
            part *= GROWTH
            ids = self._encoder([self._part(text, part)])[0]
        unread = part < len(text) and (len(ids) < self._enough or self._overflow == "mean")
        return ids, unread

    def _prepared(self, ids: list[int], unread: bool, prompt: str) -> Prepared:
        too_long = unread or len(ids) > self._limit
        if too_long and self._overflow == "refuse":
            return Prepared(_array(ids[: self._limit]), cost=max(len(ids), self._limit + 1), truncated=True)
        length = self._prompt_length(prompt)
        if self._overflow == "mean" and len(ids) > self._limit:
            windows = tuple(self._marked(window, length) for window in self._windows(ids, length))
            return Prepared(windows[0].array, windows[0].cost, truncated=unread, windows=windows)
        return self._marked(self._cut(ids) or [self._vocabulary.blank], length, truncated=too_long)

    def _windows(self, ids: list[int], prompt: int) -> Iterator[list[int]]:
        """Split the text into windows that fit, each with the prompt and the special tokens."""
        room = self._limit - self._tail - prompt
        if room < 1:
            raise TaskError("too_large", f"prompt_name: the prompt leaves no room for a text in {self._limit} tokens")
        before, content, after = ids[:prompt], ids[prompt : len(ids) - self._tail], ids[len(ids) - self._tail :]
        for start in range(0, len(content), room):
            yield before + content[start : start + room] + after

    def _prompt_length(self, prompt: str) -> int:
        """Return the number of tokens before the text: special tokens and the prompt's."""
        if not prompt:
            return self._head
        length = self._prompt_tokens.get(prompt)
        if length is None:
            length = len(self._encoder([prompt])[0]) - self._tail
            self._prompt_tokens[prompt] = length
        return length

    def _marked(self, ids: list[int], prompt: int, *, truncated: bool = False) -> Prepared:
        kept = _array(ids)
        if prompt > self._head and not self._prompts.pooled:
            kept[:prompt] = ~kept[:prompt]
        return self._filled(kept, truncated=truncated)

    def _filled(self, ids: NDArray[np.int64], *, truncated: bool) -> Prepared:
        if self._filling is not None:
            filler = np.full(self._filling.length - len(ids), self._filling.token, np.int64)
            ids = np.concatenate([filler, ids] if self._filling.left else [ids, filler])
        return Prepared(ids, cost=len(ids), truncated=truncated)

    def _cut(self, ids: list[int]) -> list[int]:
        excess = len(ids) - self._limit
        if excess <= 0:
            return ids
        start = self._head if self._keep_end else len(ids) - self._tail - excess
        return ids[:start] + ids[start + excess :]


def _legible(text: str) -> str:
    """Replace lone surrogates, which JSON can carry but tokenizers reject."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _array(ids: list[int]) -> NDArray[np.int64]:
    return np.array(ids, dtype=np.int64)
