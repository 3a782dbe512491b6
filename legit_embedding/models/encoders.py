"""Common interface to tokenizers: texts to lists of token ids, including special tokens."""

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
    """Tokenises without truncation or padding. Thread-safe."""

    head: int
    """Number of special tokens before each text."""
    tail: int
    """Number of special tokens after each text."""
    least_window: int
    """Minimum number of leading characters needed to get a text's first tokens right."""
    releases_gil: bool
    """True if other threads run Python code meanwhile."""

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""


class FastEncoder:
    """Encoder for tokenizers of the ``tokenizers`` library.

    The tokenizer's own truncation and padding stay off, so its state never changes and threads can share it.

    Args:
        tokenizer: the tokenizer, owned by the encoder from then on.
    """

    least_window = 0
    releases_gil = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        mask = tokenizer.encode("a").special_tokens_mask
        self.head, self.tail = mask.index(0), mask[::-1].index(0)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise in parallel, in the tokenizer's own threads."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]


class SlowEncoder:
    """Encoder for transformers' Python tokenizers, such as SigLIP's.

    Args:
        tokenizer: the tokenizer, owned by the encoder from then on.
    """

    least_window = 0
    releases_gil = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._lock = Lock()  # these tokenizers are not documented as thread-safe
        ids = self(["a"])[0]
        special = [token in tokenizer.all_special_ids for token in ids]
        self.head, self.tail = special.index(False), special[::-1].index(False)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise the texts one by one."""
        with self._lock:
            encoded: list[list[int]] = self._tokenizer(list(texts), padding=False, truncation=False).input_ids
        return encoded


class BpeEncoder:
    """Encoder for open_clip's own tokenizer.

    The tokenizer's cache of words grows without bound, so it is cleared from time to time.

    Args:
        tokenizer: the tokenizer, owned by the encoder from then on.
    """

    head = tail = 1
    least_window = 1 << 13
    """Its repair of broken encodings looks at whole lines."""
    releases_gil = False

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = dict(tokenizer.cache)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Clean and tokenise the texts one by one."""
        tokenizer = self._tokenizer
        if len(tokenizer.cache) > _WORDS:
            tokenizer.cache = dict(self._special)
        return [[tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id] for text in texts]


class CleanedEncoder:
    """Encoder that cleans each text first and replaces some ids afterwards, as open_clip does.

    Args:
        encoder: the encoder that produces the ids.
        clean: the function applied to each text first.
        replaced: ids that are replaced by 0.
    """

    least_window = BpeEncoder.least_window
    releases_gil = False

    def __init__(self, encoder: Encoder, clean: Callable[[str], str], replaced: frozenset[int]) -> None:
        self._encoder = encoder
        self._clean = clean
        self._replaced = replaced
        self.head, self.tail = encoder.head, encoder.tail

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Clean and tokenise the texts, and replace ids."""
        encoded = self._encoder([self._clean(text) for text in texts])
        if not self._replaced:
            return encoded
        return [[0 if token in self._replaced else token for token in ids] for ids in encoded]
