"""Requests to a child and its answers: JSON, with arrays and files as they are behind it. Nothing is unpickled."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from legit_embedding.errors import ERROR_CODES, TaskError, in_one_line
from legit_embedding.models.backend import Prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = "fiu"
LONGEST_TRACE = 20_000


class Request(NamedTuple):
    """One call of a recipe: an image, or some texts."""

    queue: str
    """The name of the model's queue."""
    image: bytes | None
    max_pixels: int = 0
    texts: Sequence[str] = ()
    prompts: Sequence[str | None] = ()

    def packed(self) -> tuple[bytes, list[bytes | memoryview]]:
        """The header, and the data behind it."""
        if self.image is not None:
            return _json(queue=self.queue, max_pixels=self.max_pixels), [self.image]
        # JSON's escapes carry lone surrogates too, which UTF-8 does not.
        return _json(queue=self.queue, prompts=list(self.prompts)), [json.dumps(list(self.texts)).encode()]

    @classmethod
    def unpacked(cls, header: bytes, data: bytes) -> Request:
        """The request again."""
        fields = json.loads(header)
        if "prompts" in fields:
            return cls(fields["queue"], None, texts=json.loads(data), prompts=fields["prompts"])
        return cls(fields["queue"], data, fields["max_pixels"])


class NotHereError(Exception):
    """A child leaves a call to the thread that asked for it."""


def pack_items(items: Sequence[Prepared]) -> tuple[bytes, list[bytes | memoryview]]:
    """Pack prepared items.

    Raises:
        NotHereError: an item is more than a `Prepared`, or no array of numbers.
    """
    parts: list[bytes | memoryview] = []
    described = [_described(item, parts) for item in items]
    return _json(items=described), parts


def pack_error(error: BaseException, trace: str = "") -> bytes:
    """Pack what a recipe raised."""
    if isinstance(error, TaskError):
        return _json(error=error.code, detail=error.detail, transient=error.transient)
    said = in_one_line(error, named=False)
    return _json(crash=type(error).__name__, said="" if said == type(error).__name__ else said, trace=trace)


def pack_not_here() -> bytes:
    """Pack that the thread is to prepare the item itself."""
    return _json(not_here=True)


def read_answer(header: bytes, data: bytes) -> list[Prepared]:
    """The prepared items of an answer. Whatever a child has become of what it read, nothing else comes out of it.

    Raises:
        TaskError: as the recipe raised it.
        NotHereError: the calling thread is to prepare the item.
        ValueError: the answer makes no sense.
        Exception: of the class that the recipe raised, by its name, with the child's traceback as a note.
    """
    fields = json.loads(header)
    if not isinstance(fields, dict):
        raise ValueError("the answer of a prep process is not an object")  # noqa: TRY004 - as any other nonsense
    if fields.get("not_here"):
        raise NotHereError
    if fields.get("error") in ERROR_CODES:
        raise TaskError(fields["error"], str(fields["detail"]), transient=fields["transient"] is True)
    if "crash" in fields:
        raise _crash(str(fields["crash"]), str(fields["said"]), str(fields["trace"]))
    if not isinstance(fields.get("items"), list):
        raise ValueError("the answer of a prep process has neither items nor an error that there is")  # noqa: TRY004
    reader = _Reader(data)
    return [reader.item(each) for each in fields["items"]]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def item(self, fields: dict[str, Any]) -> Prepared:
        windows = tuple(self.item(each) for each in fields["windows"])
        return Prepared(
            self._array(str(fields["dtype"]), fields["shape"]),
            cost=int(fields["cost"]),
            truncated=fields["truncated"] is True,
            repaired=fields["repaired"] is True,
            windows=windows,
        )

    def _array(self, name: str, shape: list[int]) -> np.ndarray:
        dtype = np.dtype(name)
        if dtype.kind not in _NUMBERS or not all(isinstance(each, int) and each >= 0 for each in shape):
            message = f"the answer of a prep process has an array of {name}, {shape}"
            raise ValueError(message)
        end = self._at + dtype.itemsize * math.prod(shape)
        if end > len(self._data):
            raise ValueError("the answer of a prep process ends too early")
        found = np.empty(shape, dtype)
        found.reshape(-1).view(np.uint8)[:] = np.frombuffer(self._data, np.uint8, found.nbytes, self._at)
        self._at = end
        return found


def _described(item: Prepared, parts: list[bytes | memoryview]) -> dict[str, Any]:
    """Describe an item, and add its arrays in the order in which they are read: its windows' first."""
    if type(item) is not Prepared or item.array.dtype.kind not in _NUMBERS:
        raise NotHereError
    windows = [_described(each, parts) for each in item.windows]
    parts.append(np.ascontiguousarray(item.array).reshape(-1).view(np.uint8).data)
    return {
        "dtype": item.array.dtype.str,
        "shape": item.array.shape,
        "cost": int(item.cost),
        "truncated": bool(item.truncated),
        "repaired": bool(item.repaired),
        "windows": windows,
    }


def _crash(name: str, said: str, trace: str) -> Exception:
    # The class's name is a part of the answer that the task gets.
    error: Exception = type(name, (RuntimeError,), {})(said)
    error.add_note(f"In the prep process:\n{trace}")
    return error


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()
