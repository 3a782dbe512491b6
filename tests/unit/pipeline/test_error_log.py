from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.pipeline import error_log
from legit_embedding.pipeline.error_log import ErrorLog

if TYPE_CHECKING:
    import pytest


def test_the_first_error_of_a_code_is_loud_and_the_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ErrorLog()
    for task in range(5):
        log.tell(TaskError("fetch_failed", "no answer"), f"t-{task}", "clip")
    log.tell(TaskError("model_failed", "it broke"), "t-5", "clip")
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO", "INFO", "INFO", "INFO", "ERROR"]
    assert caplog.messages[0] == "Task t-0 on clip ended in fetch_failed: no answer"
    assert (caplog.records[0].task_id, caplog.records[0].code) == ("t-0", "fetch_failed")


def test_a_minute_later_it_is_loud_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(error_log.time, "monotonic", lambda: now[0])
    log = ErrorLog()
    for at in (1000.0, 1059.0, 1060.0):
        now[0] = at
        log.tell(TaskError("expired", "too late"), str(at), "")
    assert [record.task_id for record in caplog.records if record.levelno == logging.WARNING] == ["1000.0", "1060.0"]
    assert "on no model ended in expired" in caplog.messages[0]
