"""A model that fails in every way an item can make one fail.

In the settings: ``backend = "tests.faulty_model:FaultyModel"``. An item whose text (or image file) contains one of the
markers makes its whole batch fail that way; every other item is answered as `NullModel` answers it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

import numpy as np
import torch

from legit_embedding.models.backend import Prepared
from legit_embedding.models.null import NullModel, NullOptions, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from legit_embedding.models.backend import Recipe

STICKY_MESSAGE = "CUDA error: device-side assert triggered"


class FaultyOptions(NullOptions):
    """The markers; an empty one is off."""

    tokens: int = 512
    """The most bytes of a text that count."""
    poison: str = "<poison>"
    """The batch raises ValueError."""
    oom: str = "<oom>"
    """The batch runs out of memory, however small it is."""
    oom_above: int = 0
    """A batch of more items than this runs out of memory; 0: none does."""
    nan: str = "<nan>"
    """The item's vector is not a number; the others are right."""
    infinite: str = "<inf>"
    """The item's vector is infinite; the others are right."""
    stall: str = "<stall>"
    """The batch takes `stall_s` longer."""
    stall_s: float = 1.0
    fails_while: str = ""
    """Every batch fails while there is a file of this name."""
    sticky: str = "<sticky>"
    """The device is broken from here on: this batch fails and so does every later one."""
    kill: str = "<kill>"
    """The process ends at once, as a SIGKILL ends it."""


class FaultyModel(NullModel):
    """Carries each item's bytes through to the forward pass, and looks there for markers."""

    options_schema: ClassVar[type[NullOptions]] = FaultyOptions
    options: FaultyOptions
    broken = False

    def recipe(self) -> Recipe:
        return FaultyRecipe(self.options.tokens)

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        batch = np.full((len(arrays), max(map(len, arrays))), -1, np.int64)
        for row, array in zip(batch, arrays, strict=True):
            row[: len(array)] = array
        ids = torch.from_numpy(batch)
        return {"input_ids": ids, "attention_mask": (ids >= 0).long()}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        items = [bytes(row[row >= 0].tolist()) for row in inputs["input_ids"].cpu().numpy()]
        self._misbehave(items)
        self._pass_time(len(items))
        vectors = unit_vectors(torch.tensor([crc32(item) for item in items]), self.dim)
        for marker, value in ((self.options.nan, float("nan")), (self.options.infinite, float("inf"))):
            vectors[_marked(items, marker), 1] = value
        return vectors.to(inputs["input_ids"].device)

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        length = max(1, min(cost, self.options.tokens))
        return [np.full(length, ord("x"), np.int64)] * max(1, cost // length)

    def _misbehave(self, items: list[bytes]) -> None:
        options = self.options
        if any(_marked(items, options.kill)):
            os._exit(137)
        self.broken = self.broken or any(_marked(items, options.sticky))
        if self.broken:
            raise getattr(torch, "AcceleratorError", RuntimeError)(STICKY_MESSAGE)
        if any(_marked(items, options.oom)) or 0 < options.oom_above < len(items):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB.")
        if any(_marked(items, options.poison)) or (options.fails_while and os.path.exists(options.fails_while)):
            raise ValueError("a poisoned item")
        if any(_marked(items, options.stall)):
            time.sleep(options.stall_s)


class FaultyRecipe:
    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        return self._bytes(data)

    def texts(self, texts: Sequence[str]) -> list[Prepared]:
        return [self._bytes(text.encode("utf-8", "replace")) for text in texts]

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        return self._bytes(array.tobytes())

    def _bytes(self, data: bytes) -> Prepared:
        kept = np.frombuffer(data[: self.max_tokens], np.uint8).astype(np.int64)
        return Prepared(kept, cost=max(1, len(kept)), truncated=len(data) > len(kept))


def _marked(items: list[bytes], marker: str) -> list[bool]:
    sought = marker.encode()
    return [bool(sought) and sought in item for item in items]
