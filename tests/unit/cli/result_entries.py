"""Result entries as a worker writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.cli.results.results import ResultEntry
from legit_embedding.encoding import encode_embedding

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vector(number: int, dim: int = 4) -> NDArray[np.float32]:
    """A vector that belongs to this number alone."""
    return np.arange(number, number + dim, dtype=np.float32) / 7


def good(number: int, dim: int = 4, **fields: str) -> dict[str, str]:
    """The fields of a result with a vector."""
    made = {"task_id": f"t{number}", "status": "ok", "kind": "text", "model": "minilm", "dim": str(dim)}
    made |= {"encoding": "base64_fp32", "embedding": encode_embedding(vector(number, dim))}
    made |= {"app": "shop", "metadata": json.dumps({"n": number}), "source": f"{number}-0", "worker": "w1"}
    return made | {"prep_ms": "1", "queue_ms": "2", "compute_ms": "3"} | fields


def bad(number: int, **fields: str) -> dict[str, str]:
    """The fields of a result without."""
    made = {"task_id": f"t{number}", "status": "error", "error": "undecodable", "detail": "no image"}
    return made | {"source": f"{number}-0", "worker": "w1", "prep_ms": "1", "queue_ms": "0", "compute_ms": "0"} | fields


def entry(number: int, fields: dict[str, str]) -> ResultEntry:
    """The same as it is read."""
    return ResultEntry(f"{number}-0", fields)
