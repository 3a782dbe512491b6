"""Tokenizers of every make behind one interface: from texts to lists of token ids, special tokens included."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_WORDS = 1 << 17


class Encoder(Protocol):
    """Tokenises without cutting and without padding; safe to call from many threads at once."""

    head: int
    """How many special tokens stand before every text."""
    tail: int
    """How many stand behind it."""
    least_window: int
    """How many characters of a text have to be read together for its first tokens to be right."""

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text."""


class FastEncoder:
    """A tokenizer of the ``tokenizers`` library.

    Its own truncation and padding stay off, so that nothing ever changes it: that is what makes it safe to share.

    Args:
        tokenizer: owned by the encoder from now on.
    """

    least_window = 0

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        mask = tokenizer.encode("a").special_tokens_mask
        self.head, self.tail = mask.index(0), mask[::-1].index(0)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise in as many threads as the tokenizer likes."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]


class SlowEncoder:
    """A tokenizer of transformers that is written in Python, as SigLIP's is.

    Args:
        tokenizer: owned by the encoder from now on.
    """

    least_window = 0

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._lock = Lock()  # nothing says that such a tokenizer may be shared
        ids = self(["a"])[0]
        special = [token in tokenizer.all_special_ids for token in ids]
        self.head, self.tail = special.index(False), special[::-1].index(False)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise one after the other."""
        with self._lock:
            encoded: list[list[int]] = self._tokenizer(list(texts), padding=False, truncation=False).input_ids
        return encoded


class BpeEncoder:
    """open_clip's own tokenizer.

    It keeps what it has made of each word for ever, so that is forgotten from time to time.

    Args:
        tokenizer: owned by the encoder from now on.
    """

    head = tail = 1
    least_window = 1 << 13
    """It mends broken encodings by the look of a whole line."""

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = dict(tokenizer.cache)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Clean and tokenise one after the other."""
        tokenizer = self._tokenizer
        if len(tokenizer.cache) > _WORDS:
            tokenizer.cache = dict(self._special)
        return [[tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id] for text in texts]


class CleanedEncoder:
    """An encoder before which each text is cleaned, and after which some ids are replaced, as open_clip does both.

    Args:
        encoder: makes the ids.
        clean: what happens to a text first.
        replaced: ids that become 0.
    """

    least_window = BpeEncoder.least_window

    def __init__(self, encoder: Encoder, clean: Callable[[str], str], replaced: frozenset[int]) -> None:
        self._encoder = encoder
        self._clean = clean
        self._replaced = replaced
        self.head, self.tail = encoder.head, encoder.tail

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Clean, tokenise and replace."""
        encoded = self._encoder([self._clean(text) for text in texts])
        if not self._replaced:
            return encoded
        return [[0 if token in self._replaced else token for token in ids] for ids in encoded]
