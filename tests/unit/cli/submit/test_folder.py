from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from legit_embedding.cli.submit.folder import Folder, warn_of_roots

if TYPE_CHECKING:
    from pathlib import Path

    from legit_embedding.cli.submit.folder import By


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "b" / "deep").mkdir(parents=True)
    for name in ("z.jpg", "a.PNG", "notes.txt", "b/deep/c.webp", "b/d.jpeg"):
        (root / name).write_bytes(name.encode())
    return root


def tasks(root: Path, by: By = "path", skip: int = 0, max_bytes: int = 1000, **fields: str) -> tuple[list, list[str]]:
    left_out: list[str] = []
    folder = Folder(root, by, fields, max_bytes, left_out.append)
    return [(item.position, json.loads(item.payload)) for item in folder.tasks(skip)], left_out


def test_images_are_found_below_it_always_in_the_same_order(root: Path) -> None:
    found, left_out = tasks(root)
    assert [task["task_id"] for _, task in found] == ["a.PNG", "z.jpg", "b/d.jpeg", "b/deep/c.webp"]
    assert [position for position, _ in found] == [1, 2, 3, 4]
    assert found[3][1]["image_path"] == str(root / "b" / "deep" / "c.webp")
    assert not left_out


def test_content_is_carried_as_base64(root: Path) -> None:
    found, _ = tasks(root, "content", model="m", reply_to="r")
    assert base64.b64decode(found[0][1]["image_b64"]) == b"a.PNG"
    assert (found[0][1]["model"], found[0][1]["reply_to"]) == ("m", "r")
    assert "image_path" not in found[0][1]


def test_a_relative_folder_still_names_absolute_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    found, _ = tasks(root.__class__("."))
    assert found[0][1] == {"task_id": "a.PNG", "image_path": str(root / "a.PNG")}


def test_the_first_are_skipped_and_the_others_keep_their_positions(root: Path) -> None:
    assert [(position, task["task_id"]) for position, task in tasks(root, skip=3)[0]] == [(4, "b/deep/c.webp")]


def test_what_no_worker_would_take_is_left_out_and_named(root: Path) -> None:
    (root / "big.jpg").write_bytes(b"x" * 1001)
    (root / "gone.jpg").symlink_to(root / "nowhere")
    found, left_out = tasks(root)
    assert len(found) == 4
    assert left_out[0].startswith(f"{root / 'big.jpg'}: 1,001 bytes are more than fetch.max_bytes")
    assert "gone.jpg" in left_out[1]


def test_a_name_that_is_not_utf8_is_left_out(root: Path) -> None:
    (root / "b" / "\udcff.jpg").write_bytes(b"x")
    found, left_out = tasks(root)
    assert len(found) == 4
    assert len(left_out) == 1


def test_a_folder_outside_the_image_roots_is_warned_of(root: Path) -> None:
    said: list[str] = []
    warn_of_roots(root, (root.parent,), said.append)
    assert not said
    warn_of_roots(root, (root / "b",), said.append)
    assert "image_roots" in said[0]
