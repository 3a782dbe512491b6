"""Checks of a remote's answer: nothing becomes a vector that is not certainly one."""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

_NUMBERS = frozenset({float, int})
_FLOAT_BYTES = 4


class BrokenAnswerError(Exception):
    """An answer that cannot be right; the message completes "the answer is broken: "."""


def parsed(body: bytes) -> dict[str, Any]:
    """Parse an answer's body, a JSON object without ``NaN`` or infinities.

    Raises:
        BrokenAnswerError: it is none.
    """
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        message = f"no JSON object: {error}"
        raise BrokenAnswerError(message) from None
    if not isinstance(answer, dict):
        message = "no JSON object"
        raise BrokenAnswerError(message)
    return answer


def entry(answer: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON is anything
    """Return a field of an answer.

    Raises:
        BrokenAnswerError: it is absent.
    """
    if name not in answer:
        message = f"{name} is missing"
        raise BrokenAnswerError(message)
    return answer[name]


def of_type(answer: Mapping[str, Any], name: str, type_: type[T]) -> T:
    """Return a field of an answer, of exactly this type.

    Raises:
        BrokenAnswerError: it is absent, or something else; a boolean is no integer.
    """
    value = entry(answer, name)
    if type(value) is not type_:
        message = f"{name} is no {type_.__name__}"
        raise BrokenAnswerError(message)
    return value


def vectors(rows: Sequence[Any], count: int, dimension: int | None, *, normalize: bool) -> NDArray[np.float32]:
    """Check an answer's vectors, and normalise them again if asked to: float32 ``[count, dimension]``.

    Args:
        rows: a list of numbers, or base64 of little-endian float32, per item.
        count: the number of items that were sent.
        dimension: the length that they must have; None for any that is the same for all.
        normalize: whether to divide each by its length.

    Raises:
        BrokenAnswerError: there are more or fewer, or one has another length, or holds what is no finite number, or
            only zeros although it is to be normalised.
    """
    if len(rows) != count:
        message = f"{len(rows)} vectors for {count} items"
        raise BrokenAnswerError(message)
    found = [_vector(row) for row in rows]
    lengths = {len(row) for row in found}
    if len(lengths) != 1 or 0 in lengths or (dimension is not None and lengths != {dimension}):
        message = f"vectors of {', '.join(map(str, sorted(lengths)))} dimensions instead of {dimension or 'one length'}"
        raise BrokenAnswerError(message)
    with np.errstate(over="ignore"):
        matrix = np.stack(found).astype(np.float32)
    if not np.isfinite(matrix).all():
        message = "a vector holds a NaN or an infinity"
        raise BrokenAnswerError(message)
    if not normalize:
        return matrix
    norms: NDArray[np.float64] = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    if not norms.all():
        message = "a vector holds only zeros"
        raise BrokenAnswerError(message)
    normalised: NDArray[np.float32] = (matrix / norms).astype(np.float32)
    return normalised


def _vector(row: object) -> NDArray[np.float64]:
    if isinstance(row, str):
        return _from_base64(row)
    if not (isinstance(row, list) and _NUMBERS.issuperset(map(type, row))):
        message = "a vector is no list of numbers"
        raise BrokenAnswerError(message)
    try:
        return np.array(row, np.float64)
    except OverflowError:
        message = "a vector holds a number beyond all bounds"
        raise BrokenAnswerError(message) from None


def _from_base64(text: str) -> NDArray[np.float64]:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        message = f"a vector is no base64: {error}"
        raise BrokenAnswerError(message) from None
    if len(data) % _FLOAT_BYTES:
        message = f"a vector of {len(data)} bytes is no float32"
        raise BrokenAnswerError(message)
    return np.frombuffer(data, "<f4").astype(np.float64)


def _no_constant(name: str) -> None:
    message = f"it holds {name}"
    raise ValueError(message)
