from __future__ import annotations

import os
import subprocess
import sys

import pytest

from legit_embedding.engine.device.allocator import expand_segments

NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({NAMES[0]: "max_split_size_mb:64"}, "max_split_size_mb:64,expandable_segments:True"),
        ({NAMES[1]: "max_split_size_mb:64"}, "max_split_size_mb:64,expandable_segments:True"),
        ({NAMES[1]: "expandable_segments:False"}, "expandable_segments:False"),
    ],
)
def test_segments_grow_unless_the_operator_says_otherwise(monkeypatch: pytest.MonkeyPatch, given, expected):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    expand_segments()
    assert [os.environ[name] for name in NAMES] == [expected, expected]


PROBE = """
import os, sys
from legit_embedding import process
import legit_embedding.engine.device.allocator as allocator
original = allocator.expand_segments
def expand():
    print("torch" in sys.modules)
    original()
    raise SystemExit
allocator.expand_segments = expand
process.start(None, 1)
"""


def test_it_is_said_before_torch_is_imported():
    printed = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"
