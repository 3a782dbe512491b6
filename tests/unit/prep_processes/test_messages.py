from __future__ import annotations

import json

import pytest

from legit_embedding.prep_processes.messages import read_answer

ITEM = {"dtype": "<i8", "shape": [2], "cost": 1, "truncated": False, "repaired": False, "windows": []}


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ([], b""),
        ({"items": [ITEM]}, bytes(15)),
        ({"items": [ITEM | {"dtype": "|O"}]}, bytes(16)),
        ({"items": [ITEM | {"dtype": "<U4"}]}, bytes(16)),
        ({"items": [ITEM | {"shape": [-1]}]}, bytes(16)),
        ({"items": [ITEM | {"shape": ["2"]}]}, bytes(16)),
        ({"items": [ITEM | {"shape": [1 << 62]}]}, bytes(16)),
        ({"items": [{}]}, b""),
        ({}, b""),
        ({"error": "made_up", "detail": "", "transient": False}, b""),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(fields, data):
    with pytest.raises((ValueError, KeyError, MemoryError)):
        read_answer(json.dumps(fields).encode(), data)


def test_nothing_is_allocated_for_what_is_not_there():
    """A child that was taken over by a hostile file could else take all the memory of its worker."""
    with pytest.raises(ValueError, match="ends too early"):
        read_answer(json.dumps({"items": [ITEM | {"shape": [1 << 40]}]}).encode(), bytes(16))
