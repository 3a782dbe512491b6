"""One result, as far as a comparison cares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.encoding import decode_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Record:
    """A result of one side."""

    task_id: str
    status: str = "ok"
    model: str = ""
    error: str = ""
    """The error's code; or, for a good result whose vector cannot be read, why."""
    at_ms: int | None = None
    """When it was written, in Unix milliseconds, where that is known."""
    vector: bytes = b""
    """Float32, as in the machine's memory; empty where there is none."""

    @classmethod
    def of(cls, fields: Mapping[str, object], at_ms: int | None = None) -> Record:
        """Read a result entry's fields, or a line of ``legit-embedding tail``."""
        task_id, model = str(fields.get("task_id", "")), str(fields.get("model", ""))
        status = str(fields.get("status", "ok"))
        if status != "ok":
            return cls(task_id, status, model, str(fields.get("error", "")), at_ms)
        try:
            vector = _vector(fields)
        except (TypeError, ValueError, OverflowError) as error:
            return cls(task_id, "unreadable", model, str(error), at_ms)
        return cls(task_id, status, model, "", at_ms, vector.tobytes())

    def header(self) -> bytes:
        """Everything but the vector."""
        return json.dumps([self.task_id, self.status, self.model, self.error, self.at_ms]).encode()

    @classmethod
    def restored(cls, header: bytes, vector: bytes) -> Record:
        """The record that `header` was made from."""
        task_id, status, model, error, at_ms = json.loads(header)
        return cls(task_id, status, model, error, at_ms, vector)

    @property
    def dim(self) -> int:
        """The vector's length."""
        return len(self.vector) // np.dtype(np.float32).itemsize


def _vector(fields: Mapping[str, object]) -> NDArray[np.float32]:
    embedding = fields.get("embedding")
    if isinstance(embedding, list):
        vector = np.asarray(embedding, np.float32)
    elif embedding is None:
        message = "no embedding"
        raise ValueError(message)
    else:
        vector = decode_entry({name: str(value) for name, value in fields.items()})
    if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any():
        message = "the vector is empty, zero, or not finite"
        raise ValueError(message)
    return vector
