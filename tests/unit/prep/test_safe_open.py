from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from legit_embedding.prep.safe_open import file_beneath, folder_beneath

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with files below it, and links and a secret beside it."""
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_bytes(b"content")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (root / "link").symlink_to(root / "a" / "b" / "file")
    (root / "a" / "out").symlink_to(tmp_path / "outside")
    (root / "a" / "in").symlink_to(root / "a" / "b")
    os.mkfifo(root / "pipe")
    return root


def read(root: Path, parts: Sequence[str]) -> bytes:
    with file_beneath(root, parts) as descriptor:
        return os.read(descriptor, 100)


def test_a_regular_file_is_opened(root: Path) -> None:
    assert read(root, ["a", "b", "file"]) == b"content"
    root.rename(root.with_name("moved"))
    root.symlink_to(root.with_name("moved"))
    assert read(root, ["a", "b", "file"]) == b"content", "the root itself is the operator's, and may be a link"


@pytest.mark.parametrize(
    "parts",
    [["link"], ["a", "out", "file"], ["a", "in", "file"], ["pipe"], ["a"], ["a", "b", "file", "x"], ["none"], ["x\0"]],
)
def test_links_pipes_folders_and_nothing_are_not(root: Path, parts: list[str]) -> None:
    with pytest.raises((OSError, ValueError)):
        read(root, parts)


def test_no_descriptor_is_left_open(root: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for parts in (["a", "b", "file"], ["link"], ["a", "out", "file"], ["pipe"], ["a", "none"]):
        with suppress(OSError):
            read(root, parts)
    with folder_beneath(root, ["a"]) as descriptor:
        assert os.listdir(descriptor)
    assert count() == before
