from __future__ import annotations

import io
import logging
import sys
import warnings
from contextlib import suppress

import pytest

from legit_embedding.engine.sizing.noise import gathered


@pytest.fixture(autouse=True)
def _progress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_what_libraries_say_is_one_line(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with gathered("clip"):
        logging.getLogger("open_clip").warning("no weights\nfor %s", "ViT")
        logging.warning("said by the root logger")
        print("a line on standard output")
        print(
            "Loading:  50%|#####     | 1/2\rLoading: 100%|##########| 2/2\nand one on standard error", file=sys.stderr
        )
        print("and one on standard error", file=sys.stderr)
        logging.getLogger("legit_embedding.models").info("of our own")
    assert caplog.messages == [
        "of our own",
        (
            "While clip was loading: open_clip: no weights for ViT; said by the root logger; "
            "a line on standard output; and one on standard error"
        ),
    ]
    assert capsys.readouterr() == ("", "")


def test_silence_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with gathered("clip"):
        pass
    assert caplog.messages == []


def test_an_error_passes_and_nothing_is_held_back_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    with suppress(OSError), gathered("clip"):
        print("a hint")
        raise OSError("no weights")
    logging.getLogger("open_clip").warning("later")
    assert caplog.messages == ["While clip was loading: a hint", "later"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "__stderr__", terminal)
    with gathered("clip"):
        assert sys.stderr.isatty() is is_terminal
        print("model.safetensors:  50%|#####     | 1/2", file=sys.stderr)
        print("a warning", file=sys.stderr)
    assert ("50%" in terminal.getvalue()) is is_terminal
    assert "a warning" not in terminal.getvalue()


def test_a_flood_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with gathered("clip"):
        print("x" * 10_000)
    assert len(caplog.text) < 600


def test_the_level_debug_holds_nothing_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with gathered("clip"):
        logging.getLogger("open_clip").debug("a detail")
    assert caplog.messages == ["a detail"]


def test_python_warnings_are_held_back_where_celery_has_them_logged(caplog: pytest.LogCaptureFixture) -> None:
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings(), gathered("clip"):
            warnings.simplefilter("always")
            warnings.warn("deprecated", stacklevel=1)
    finally:
        logging.captureWarnings(False)
    (line,) = caplog.messages
    assert line.startswith("While clip was loading: py.warnings: ")
    assert "deprecated" in line
