"""The CPU halves of models: images to pixels, texts to token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from legit_embedding.errors import TaskError
from legit_embedding.models.base import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_CHANNELS = 3
_HANDOFF_ROWS = 2

# Ordinary text has four to five characters a token; a margin must outlast WordPiece's longest word, of 100 characters.
CHARACTERS_PER_TOKEN = 6
MARGIN = 128
GROWTH = 4
LONGEST_WINDOW = 1 << 20
LONGEST_PADDED = 1 << 16


class ImageRecipe:
    """Decodes and transforms images for one model.

    Args:
        transform: from a file's bytes and the largest number of pixels to uint8 ``[3, H, W]``, and
            whether the image was damaged and has been completed.
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

    def texts(self, texts: Sequence[str]) -> NoReturn:  # noqa: ARG002 - the protocol's signature
        """An image model prepares no texts."""
        raise TypeError("an image model prepares no texts")

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Refuse what is not the model's one shape."""
        if dtype not in (np.float32, np.uint8) or shape != self._shape:
            expected = f"float32 or uint8 {list(self._shape)}"
            raise TaskError("handoff_refused", f"the model takes {expected}, not {dtype} {list(shape)}")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Take normalised float32 pixels (an old prep worker's), or uint8 ones (our own prep-only worker's)."""
        self.check_handoff(array.dtype, array.shape)
        return Prepared(np.ascontiguousarray(array), cost=1)


class TextRecipe:
    """Tokenises texts for one model.

    The tokenizer's own truncation and padding stay off, so that nothing ever changes it: that is what makes it safe to
    share between threads. A text is cut to the limit here, between its special tokens, exactly as its own truncation
    would.

    Tokenising costs time and memory in proportion to the text, of which a model reads the first few hundred tokens. So
    only a window of the text is tokenised, and a larger one as long as it yields fewer tokens than the limit and a
    margin. What follows a window can change the tokens near its end only (a cut word, a merge, an accent), never
    the ones a whole margin before it, so the outcome is that of the whole text. A text that is longer than the longest
    window and still has too few tokens in it (a million spaces, one word of a million letters) counts as cut there.

    Args:
        tokenizer: owned by the recipe from now on.
        limit: the longest text in tokens, special tokens included.
        truncate: whether a longer text is cut, or prepared so that the caller refuses it.
        keep_end: cut a text's beginning instead of its end.
        vocabulary: the number of token ids that the model knows.
        blank: the one token of a text that has none, not even special ones.

    Raises:
        ValueError: the limit leaves no room for the text between the special tokens.
    """

    def __init__(
        self, tokenizer: Tokenizer, limit: int, *, truncate: bool, keep_end: bool, vocabulary: int, blank: int
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._limit = limit
        self._truncate = truncate
        self._keep_end = keep_end
        self._vocabulary = vocabulary
        self._blank = blank
        self._head, self._tail = _special_tokens(tokenizer)
        if limit <= self._head + self._tail:
            message = f"{limit} tokens leave no room for a text beside {self._head + self._tail} special tokens"
            raise ValueError(message)
        self._enough = limit + MARGIN

    @property
    def max_tokens(self) -> int:
        """The longest text, in tokens, special tokens included."""
        return self._limit

    def texts(self, texts: Sequence[str]) -> list[Prepared]:
        """Tokenise several texts at once, in as many threads as the tokenizer likes."""
        window = CHARACTERS_PER_TOKEN * self._enough
        encodings = self._tokenizer.encode_batch_fast([self._window(text, window) for text in texts])
        return [
            self._prepared(*self._enlarged(text, window, encoding.ids))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def image(self, data: bytes, max_pixels: int) -> NoReturn:  # noqa: ARG002 - the protocol's signature
        """A text model prepares no images."""
        raise TypeError("a text model prepares no images")

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Refuse what is not ids and mask, or is padded beyond reason."""
        if dtype != np.int64 or len(shape) != _HANDOFF_ROWS or shape[0] != _HANDOFF_ROWS:
            raise TaskError("handoff_refused", f"the model takes int64 [2, L], not {dtype} {list(shape)}")
        if shape[1] > LONGEST_PADDED:
            raise TaskError("handoff_refused", f"the model takes at most {LONGEST_PADDED} tokens and padding together")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Take the token ids of an old prep worker, without their padding."""
        self.check_handoff(array.dtype, array.shape)
        ids = array[0][array[1] != 0].astype(np.int64)
        if not 0 < len(ids) <= self._limit:
            raise TaskError("handoff_refused", f"the model takes 1 to {self._limit} tokens, not {len(ids)}")
        # An id outside the embedding table would break the device for every other task too.
        if ids.min() < 0 or ids.max() >= self._vocabulary:
            raise TaskError("handoff_refused", f"the model's token ids are 0 to {self._vocabulary - 1}")
        return Prepared(ids, cost=len(ids))

    def _window(self, text: str, size: int) -> str:
        return _legible(text[-size:] if self._keep_end else text[:size])

    def _enlarged(self, text: str, window: int, ids: list[int]) -> tuple[list[int], bool]:
        """The ids, from as large a window as it takes, and whether that was still too small."""
        while len(ids) < self._enough and window < min(len(text), LONGEST_WINDOW):
            window *= GROWTH
            ids = self._tokenizer.encode_batch_fast([self._window(text, window)])[0].ids
        return ids, len(ids) < self._enough and window < len(text)

    def _prepared(self, ids: list[int], unread: bool) -> Prepared:
        too_long = unread or len(ids) > self._limit
        if too_long and not self._truncate:
            return Prepared(_array(ids[: self._limit]), cost=max(len(ids), self._limit + 1), truncated=True)
        kept = _array(self._cut(ids) or [self._blank])
        return Prepared(kept, cost=len(kept), truncated=too_long)

    def _cut(self, ids: list[int]) -> list[int]:
        excess = len(ids) - self._limit
        if excess <= 0:
            return ids
        start = self._head if self._keep_end else len(ids) - self._tail - excess
        return ids[:start] + ids[start + excess :]


def _special_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """How many special tokens stand before and after every text."""
    mask = tokenizer.encode("a").special_tokens_mask
    head, tail = mask.index(0), mask[::-1].index(0)
    return head, tail


def _legible(text: str) -> str:
    """The text with lone surrogates replaced: JSON can carry them, a tokenizer cannot."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _array(ids: list[int]) -> NDArray[np.int64]:
    return np.array(ids, dtype=np.int64)
