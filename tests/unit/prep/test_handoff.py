from __future__ import annotations

import errno
import io
import os
import random
import stat
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from legit_embedding.errors import TaskError
from legit_embedding.models.recipes import ImageRecipe
from legit_embedding.prep.handoff import HandOffDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

IMAGE = np.random.default_rng(0).random((3, 8, 8), np.float32)
TEXT = np.array([[101, 7592, 102], [1, 1, 1]], np.int64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handoff"
    folder.mkdir()
    return folder


@pytest.fixture
def handoffs(folder: Path) -> HandOffDirectory:
    return HandOffDirectory(folder)


def refusal(handoffs: HandOffDirectory, path: object) -> str:
    with pytest.raises(TaskError) as caught:
        handoffs.read(str(path))
    assert (caught.value.code, caught.value.transient) == ("handoff_refused", False)
    assert len(caught.value.detail.splitlines()) == 1
    return caught.value.detail


def saved(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("array", [IMAGE, TEXT, (IMAGE * 255).astype(np.uint8), np.float32(5).reshape(1)])
def test_a_handoff_of_an_old_worker_is_read(handoffs: HandOffDirectory, folder: Path, array: NDArray[Any]) -> None:
    (folder / "deep").mkdir()
    np.save(folder / "deep" / "x.npy", array)
    read = handoffs.read(str(folder / "deep" / "x.npy"))
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)
    assert read.flags.writeable, "torch warns of others"


def test_our_own_comes_back(tmp_path: Path) -> None:
    handoffs = HandOffDirectory(tmp_path / "new" / "handoff")
    paths = [handoffs.write(array) for array in (IMAGE, TEXT, IMAGE.transpose(2, 1, 0))]
    assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700
    assert [path.suffix for path in paths] == [".npy"] * 3
    assert np.array_equal(handoffs.read(str(paths[0])), IMAGE)
    assert np.array_equal(handoffs.read(str(paths[1])), TEXT)
    assert np.array_equal(handoffs.read(str(paths[2])), IMAGE.transpose(2, 1, 0))
    assert sorted(os.listdir(paths[0].parent)) == sorted(path.name for path in paths)
    for path in paths:
        handoffs.remove(str(path))
    assert os.listdir(paths[0].parent) == []


def test_nothing_half_written_ever_has_its_name(handoffs: HandOffDirectory, folder: Path) -> None:
    big = np.zeros((3, 256, 256), np.float32)
    ended = threading.Event()
    seen = []

    def look() -> None:
        while not ended.is_set():
            seen.extend(handoffs.read(str(path)).shape for path in folder.glob("*.npy"))

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(5):
        handoffs.write(big)
    ended.set()
    watcher.join()
    assert set(seen) <= {big.shape}


def test_a_failed_write_leaves_nothing(handoffs: HandOffDirectory, folder: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        handoffs.write(np.array([{}], object))
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "/dev/shm has 64 MB"), (errno.EACCES, "Permission denied")]
)
def test_a_directory_that_takes_nothing_is_named_and_tried_again(
    number: int, said: str, handoffs: HandOffDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np.lib.format, "write_array", refuse)
    with pytest.raises(TaskError, match=said) as caught:
        handoffs.write(IMAGE)
    assert (caught.value.code, caught.value.transient) == ("handoff_refused", True)
    assert str(folder) in caught.value.detail
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "FOLDER", "FOLDER/../secret.npy", "secret.npy", "", "FOLDER/x/../../y"]
)
def test_outside_the_directory_is_refused(handoffs: HandOffDirectory, folder: Path, path: str) -> None:
    (folder.parent / "secret.npy").write_bytes(saved(IMAGE))
    assert "not below the hand-off directory" in refusal(handoffs, path.replace("FOLDER", str(folder)))


def test_links_are_refused(handoffs: HandOffDirectory, folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "x.npy").write_bytes(saved(IMAGE))
    (folder / "link.npy").symlink_to(folder / "real" / "x.npy")
    (folder / "folder").symlink_to(folder / "real")
    refusal(handoffs, folder / "link.npy")
    refusal(handoffs, folder / "folder" / "x.npy")
    handoffs.remove(str(folder / "folder" / "x.npy"))
    assert (folder / "real" / "x.npy").exists()


def test_the_directory_may_be_named_by_its_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    np.save(folder / "x.npy", IMAGE)
    handoffs = HandOffDirectory(tmp_path / "link")
    assert np.array_equal(handoffs.read(str(tmp_path / "link" / "x.npy")), IMAGE)
    assert np.array_equal(handoffs.read(str(folder / "x.npy")), IMAGE)


def test_a_missing_file_has_its_own_sentence(handoffs: HandOffDirectory, folder: Path) -> None:
    assert "is not there" in refusal(handoffs, folder / "none.npy")
    handoffs.remove(str(folder / "none.npy"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a tensor",
        saved(IMAGE)[:-1],
        saved(IMAGE) + b"x",
        saved(IMAGE)[:60],
        saved(np.array([{}], object), allow_pickle=True),
        saved(np.array(["text"])),
        saved(np.array([1j])),
        saved(np.float32(5)),
        saved(np.zeros((0, 3), np.float32)),
        saved(np.asfortranarray(IMAGE)),
        saved(IMAGE).replace(b"(3, 8, 8)", b"(9**9, 1)"),
        saved(IMAGE).replace(b"(3, 8, 8)", b"(-3,-8,8)"),
        saved(IMAGE).replace(b"(3, 8, 8)", b"(3, 8,88)"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"(" * 1000,
        b"\x93NUMPY\x01\x00\xff\xff" + b"[" * 65535,
    ],
)
def test_what_is_no_tensor_is_refused(handoffs: HandOffDirectory, folder: Path, content: bytes) -> None:
    (folder / "x.npy").write_bytes(content)
    refusal(handoffs, folder / "x.npy")


def test_a_pickle_is_not_executed(handoffs: HandOffDirectory, folder: Path, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> Any:
            return (tmp_path / "executed").touch, ()

    (folder / "x.npy").write_bytes(saved(np.array([Malicious()], object), allow_pickle=True))
    refusal(handoffs, folder / "x.npy")
    assert not (tmp_path / "executed").exists()


def test_what_is_no_file_is_refused(handoffs: HandOffDirectory, folder: Path) -> None:
    os.mkfifo(folder / "pipe.npy")
    (folder / "folder.npy").mkdir()
    for name in ("pipe.npy", "folder.npy", "pipe.npy/x", "x\0.npy", "\ud800.npy", "x" * 300):
        refusal(handoffs, folder / name)


def test_damaged_files_are_refused_or_read_but_never_more(handoffs: HandOffDirectory, folder: Path) -> None:
    draw = random.Random(4)
    for _ in range(400):
        content = bytearray(saved(TEXT))
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(110)] = draw.choice(b"\x00\x01\xff(){}[]'\",:0123456789-OVUSf<>|?#\\\n")
        (folder / "x.npy").write_bytes(content)
        try:
            read = handoffs.read(str(folder / "x.npy"))
        except TaskError as error:
            assert error.code == "handoff_refused"  # noqa: PT017
        else:
            assert read.nbytes <= len(content)


def test_a_file_that_cannot_be_removed_is_only_logged(
    handoffs: HandOffDirectory, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "folder").mkdir()
    for path in (folder / "folder", folder.parent / "outside", folder / "x\0"):
        caplog.clear()
        handoffs.remove(str(path))
        assert "cannot be removed" in caplog.text
    assert (folder / "folder").exists()


def test_the_header_is_checked_before_any_data_is_read(
    handoffs: HandOffDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "x.npy"
    side = 16_384
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (3, side, side)})
    path.write_bytes(head.getvalue())
    os.truncate(path, len(head.getvalue()) + 3 * side * side * 4)
    monkeypatch.setattr("legit_embedding.prep.handoff.np.empty", lambda *args: pytest.fail("data was read"))
    recipe = ImageRecipe(lambda data, limit: (IMAGE, False), (8, 8))  # type: ignore[arg-type, return-value]
    with pytest.raises(TaskError, match=r"the model takes float32 or uint8 \[3, 8, 8\]"):
        handoffs.read(str(path), recipe.check_handoff)
