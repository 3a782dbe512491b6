"""Model without computation, for tests and for measuring the overhead around a model."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from zlib import crc32

import numpy as np
import torch
from pydantic import Field

from legit_embedding.errors import TaskError
from legit_embedding.models.backend import Prepared
from legit_embedding.models.settings import Options, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from legit_embedding.models.backend import Backend, Recipe
    from legit_embedding.models.config import Kind, ModelConfig

Seconds = Annotated[float, Field(ge=0)]

LARGEST_HANDOFF = 1 << 28
_HALF = 16
_TURN = 2 * math.pi / (1 << _HALF)


class NullOptions(Options):
    """Options of this backend under ``models.NAME.options``."""

    dim: Annotated[int, Field(ge=4)] = 768
    batch_s: Seconds = 0.0
    """Simulated device time per batch."""
    item_s: Seconds = 0.0
    """Additional simulated device time per item."""
    tokens: Annotated[int, Field(gt=0)] = 1
    """Simulated number of tokens per text."""


class NullModel:
    """Returns a unit vector derived from each item's checksum (see `expected`), after a sleep.

    Configured as ``backend = "legit_embedding.models.null:NullModel"``, for either kind or both.
    """

    options_schema: ClassVar[type[NullOptions]] = NullOptions

    def __init__(self, name: str, config: ModelConfig) -> None:
        self.name = name
        self.config = config
        self.options = read_options(name, config, self.options_schema)

    @classmethod
    def towers(cls, name: str, config: ModelConfig) -> dict[Kind, Backend]:
        """Make a backend for each kind that the settings name."""
        return {kind: cls(name, config.only(kind)) for kind in config.serves}

    @property
    def kind(self) -> Kind:
        """Kind given in the settings."""
        return self.config.serves[0]

    @property
    def dim(self) -> int:
        """Vector length."""
        return self.options.dim

    def recipe(self) -> Recipe:
        """Make the recipe, which computes checksums."""
        return NullRecipe(self.options.tokens if self.kind == "text" else 0)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Do nothing; there are no weights."""

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Mapping[str, torch.Tensor]:
        """Stack the checksums under the input names that real models use."""
        stacked = torch.from_numpy(np.concatenate(arrays).reshape(len(arrays), -1))
        if self.kind == "image":
            return {"pixels": stacked}
        return {"input_ids": stacked, "attention_mask": torch.ones_like(stacked)}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sleep and compute the vectors."""
        checksums = inputs["pixels" if self.kind == "image" else "input_ids"][:, 0]
        self._pass_time(len(checksums))
        return unit_vectors(checksums, self.dim)

    def samples(self, cost: int) -> list[NDArray[np.generic]]:
        """Return zeros of this batch cost."""
        return [np.zeros(self.options.tokens, np.int64)] * max(1, cost // self.options.tokens)

    def _pass_time(self, items: int) -> None:
        seconds = self.options.batch_s + self.options.item_s * items
        if seconds:
            time.sleep(seconds)  # releases the GIL, as a device does


class NullRecipe:
    """Recipe that computes checksums.

    Args:
        tokens: the simulated length of every text; 0 for images.
    """

    def __init__(self, tokens: int) -> None:
        self.max_tokens = tokens

    def image(self, data: bytes, max_pixels: int) -> Prepared:  # noqa: ARG002 - the protocol's signature
        """Compute the checksum of the file."""
        return self._checksum(data)

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:  # noqa: ARG002
        """Compute the checksum of each text's UTF-8 bytes."""
        return [self._checksum(text.encode("utf-8", "replace")) for text in texts]

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Refuse tensors that are too large; any other tensor is accepted."""
        size = dtype.itemsize * math.prod(shape)
        if size > LARGEST_HANDOFF:
            raise TaskError("handoff_refused", f"a tensor of {size} bytes is more than {LARGEST_HANDOFF}")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Compute the checksum of the tensor's bytes."""
        return self._checksum(array.tobytes())

    def _checksum(self, data: bytes) -> Prepared:
        length = max(1, self.max_tokens)
        return Prepared(np.full(length, crc32(data), np.int64), cost=length)


def unit_vectors(checksums: torch.Tensor, dim: int) -> torch.Tensor:
    """Return float32 ``[n, dim]``: each half of a 32-bit checksum is an angle, and each angle a point on a circle."""
    low = (checksums & ((1 << _HALF) - 1)).double() * _TURN
    high = (checksums >> _HALF).double() * _TURN
    points = torch.stack([low.cos(), low.sin(), high.cos(), high.sin()], dim=1) / math.sqrt(2)
    vectors = torch.zeros(len(checksums), dim, device=checksums.device)
    vectors[:, :4] = points
    return vectors


def expected(content: str | bytes, dim: int) -> NDArray[np.float32]:
    """Return the vector that `NullModel` produces for a text or an image file."""
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    vector: NDArray[np.float32] = unit_vectors(torch.tensor([crc32(data)]), dim)[0].numpy()
    return vector
