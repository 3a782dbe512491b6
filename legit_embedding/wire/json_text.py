"""Strict JSON: reading adds no interpretation, and writing adds no extension."""

from __future__ import annotations

import json
from typing import Any

_MOST_DIGITS = 4000  # Python itself refuses to read more than 4,300


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_int=_integer)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:  # noqa: ANN401 - JSON is anything
    """Read JSON.

    ``NaN``, ``1e999`` and numbers of thousands of digits become floats that `dumps` refuses, so that the error can name
    the field they are in.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        message = "it is nested too deeply"
        raise ValueError(message) from None


def dumps(value: object) -> str:
    """Write compact JSON.

    Raises:
        ValueError: the value contains something that JSON cannot represent, or is nested too deeply.
    """
    try:
        return _ENCODER.encode(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
