from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.config import FetchConfig
from legit_embedding.errors import TaskError
from legit_embedding.prep.content import ContentReader, decode_base64, read_path
from legit_embedding.prep.fetch.fetcher import Fetcher
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.prep.conftest import Site

BODY = bytes(range(256)) * 4


def refusal(action: Callable[[], Any]) -> TaskError:
    with pytest.raises(TaskError) as caught:
        action()
    assert len(caught.value.detail) < 500
    assert len(caught.value.detail.splitlines()) == 1
    return caught.value


def test_the_reader_goes_where_the_task_says(site: Site, tmp_path: Path) -> None:
    site.pages["/photo"] = lambda request: request.answer(b"from a URL")
    (tmp_path / "photo.jpg").write_bytes(b"from a path")
    config = FetchConfig(allow_private=(site.place,), max_bytes=20)
    fetcher = Fetcher(config)
    reader = ContentReader(fetcher, config, [tmp_path])

    def read(**content: str) -> bytes:
        return reader.read(TaskObject(task_id="1", **content))  # type: ignore[arg-type]

    assert read(image_url=site.url("/photo")) == b"from a URL"
    assert read(image_b64=base64.b64encode(b"from base64").decode()) == b"from base64"
    assert read(image_path=str(tmp_path / "photo.jpg")) == b"from a path"
    assert refusal(lambda: read(text="no image")).code == "invalid_task"
    assert refusal(lambda: read(image_b64="A" * 32)).code == "too_large"
    fetcher.close()


@given(st.binary(min_size=1, max_size=500))
def test_base64_is_decoded(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode(), len(data)) == data
    if len(data) > 1:
        assert refusal(lambda: decode_base64(base64.b64encode(data).decode(), len(data) - 1)).code == "too_large"


@pytest.mark.parametrize(
    "text",
    ["", "%%%", "AAA", "AAAA\n", " AAAA", "AA==AA==", "AA=A", "====", "A", "_-_-", "äöü=", "AAA\ud800", "\0\0\0\0"],
)
def test_what_is_not_base64_names_the_field(text: str) -> None:
    error = refusal(lambda: decode_base64(text, 1000))
    assert (error.code, error.transient) == ("invalid_task", False)
    assert error.detail.startswith("image_b64: ")


def test_a_data_url_is_told_what_to_send() -> None:
    error = refusal(lambda: decode_base64("data:image/png;base64,AAAA", 1000))
    assert error.code == "invalid_task"
    assert "data URL" in error.detail


def test_a_large_text_is_refused_before_it_is_decoded() -> None:
    assert refusal(lambda: decode_base64("%" * 10_000, 1000)).code == "too_large"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a file of 1,024 bytes below it."""
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "photo").write_bytes(BODY)
    return root


def test_a_file_below_a_root_is_read(root: Path, tmp_path: Path) -> None:
    path = str(root / "deep" / "photo")
    assert read_path(path, [root], len(BODY)) == BODY
    assert read_path(path, [tmp_path / "none", root, tmp_path], len(BODY)) == BODY
    assert read_path(str(root / "deep" / ".." / "deep" / "photo"), [root], len(BODY)) == BODY
    error = refusal(lambda: read_path(path, [root], len(BODY) - 1))
    assert error.code == "too_large"
    assert "image_path" in error.detail


def test_a_link_is_followed_only_within_its_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "within").symlink_to(root / "deep" / "photo")
    (root / "without").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    assert read_path(str(root / "within"), [root], 2000) == BODY
    for path in (root / "without", root / "up" / "secret", root / "up" / "images" / ".." / "secret"):
        assert refusal(lambda path=path: read_path(str(path), [root], 2000)).code == "fetch_refused"  # type: ignore[misc]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "ROOT", "ROOT/../secret", "deep/photo", "", "ROOTER/photo", "ROOT/\0", "ROOT/\ud800"]
)
def test_outside_the_roots_is_refused(root: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    error = refusal(lambda: read_path(path.replace("ROOT", str(root)), [root], 2000))
    assert (error.code, error.transient) == ("fetch_refused" if "\ud800" not in path else error.code, False)
    assert "image_path" in error.detail
    assert refusal(lambda: read_path(str(root / "deep" / "photo"), [], 2000)).code == "fetch_refused"


def test_what_cannot_be_read_is_a_failure(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(root / "loop")
    for name in ("none", "none/below", "deep", "deep/photo/below", "pipe", "x" * 300):
        error = refusal(lambda name=name: read_path(str(root / name), [root], 2000))  # type: ignore[misc]
        assert (error.code, error.transient) == ("fetch_failed", False)
    assert refusal(lambda: read_path(str(root / "loop"), [root], 2000)).code in {"fetch_failed", "fetch_refused"}


def test_a_file_swapped_for_a_link_after_the_check_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "photo").write_bytes(b"secret")
    from legit_embedding.prep import content

    checked = content._beneath

    def swap_afterwards(*args: Any) -> Any:
        result = checked(*args)
        (root / "deep").rename(root / "old")
        (root / "deep").symlink_to(tmp_path / "deep")
        return result

    monkeypatch.setattr(content, "_beneath", swap_afterwards)
    assert refusal(lambda: read_path(str(root / "deep" / "photo"), [root], 2000)).code == "fetch_failed"
