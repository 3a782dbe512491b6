from __future__ import annotations

import logging

import pytest

from legit_embedding import progress


@pytest.mark.parametrize(
    ("level", "expected"), [(logging.WARNING, logging.INFO), (logging.ERROR, logging.INFO), (logging.DEBUG, 0)]
)
def test_progress_is_shown_at_any_level(caplog: pytest.LogCaptureFixture, level: int, expected: int) -> None:
    caplog.set_level(level)
    caplog.handler.setLevel(logging.NOTSET)
    try:
        progress.show()
        assert progress.logger.level == expected
        progress.logger.info("ready")
        assert "ready" in caplog.messages
    finally:
        progress.logger.setLevel(logging.NOTSET)
