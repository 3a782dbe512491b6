"""What a sweep removes, and what it must not."""

from __future__ import annotations

import os
import time

import pytest

from legit_embedding.migration.handoffs import left_over, sweep


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "handoffs"
    folder.mkdir()
    return folder


def leave(path, hours):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"tensor")
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


def test_a_directory_that_is_not_there_holds_nothing(tmp_path):
    assert left_over(tmp_path / "nowhere") == []
    assert sweep(tmp_path / "nowhere", 0) == []


def test_the_oldest_come_first(directory):
    leave(directory / "young.npy", 0)
    leave(directory / "sub" / "old.npy", 3)
    leave(directory / ".half.unfinished", 2)
    assert [file.path for file in left_over(directory)] == ["sub/old.npy", ".half.unfinished", "young.npy"]
    assert [file.path for file in left_over(directory, 2.5 * 3600)] == ["sub/old.npy"]
    assert {file.bytes for file in left_over(directory)} == {6}


def test_a_sweep_goes_by_age(directory):
    young, old = leave(directory / "young.npy", 0.9), leave(directory / "old.npy", 1.1)
    assert [file.path for file in sweep(directory, 3600)] == ["old.npy"]
    assert young.exists()
    assert not old.exists()


def test_other_files_and_links_stay(directory, tmp_path):
    kept = leave(directory / "README.txt", 9)
    outside = leave(tmp_path / "outside.npy", 9)
    (directory / "link.npy").symlink_to(outside)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    beyond = leave(elsewhere / "beyond.npy", 9)
    (directory / "linked").symlink_to(elsewhere)
    assert sweep(directory, 0) == []
    assert kept.exists()
    assert outside.exists()
    assert beyond.exists()
    assert (directory / "link.npy").is_symlink()
