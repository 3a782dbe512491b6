from __future__ import annotations

import json
import logging

import pytest
from celery.worker.consumer.consumer import CONNECTION_ERROR

from legit_embedding.telemetry.logs import JsonLines, Masking, dress, mask


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://user:secret@host:6379/0 now", "at redis://***@host:6379/0 now"),
        ("redis://:sec/ret@host/0", "redis://***@host/0"),
        ("redis://:sec?r#et@host/0", "redis://***@host/0"),
        ("rediss://:sec@ret@host/0", "rediss://***@host/0"),
        ("'https://h/a.jpg?X-Signature=secret&b=1'", "'https://h/a.jpg?***'"),
        ("https://u:secret@h/a?token=secret twice https://h/b?c", "https://***@h/a?*** twice https://h/b?***"),
        ("https://h/a#secret", "https://h/a#***"),
        ("https://h/@someone/a", "https://h/@someone/a"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("no address, 50% of a@b?", "no address, 50% of a@b?"),
    ],
)
def test_urls_lose_their_secrets_and_nothing_else(text: str, shown: str) -> None:
    assert mask(text) == shown


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("a.logger", logging.ERROR, "file.py", 1, message, args, None)
    vars(made).update(extra)
    return made


def with_error(message: str) -> logging.LogRecord:
    made = record(message)
    error = ValueError("https://h/a?secret=1")
    made.exc_info = (ValueError, error, None)
    return made


def test_a_json_line_says_which_task() -> None:
    line = json.loads(JsonLines().format(record("it %s", "failed", task_id="t-1", model="m", task_name="-")))
    assert line["time"].endswith("+00:00")
    del line["time"], line["thread"]
    assert line == {"level": "ERROR", "logger": "a.logger", "message": "it failed", "task_id": "t-1", "model": "m"}


def test_a_json_line_stays_one_line_and_holds_no_secret() -> None:
    line = JsonLines().format(with_error("two\nlines of https://u:secret@h/"))
    assert "\n" not in line
    assert "secret" not in line
    assert json.loads(line)["error"].endswith("ValueError: https://h/a?***")


def test_another_formatters_line_is_masked_with_its_error() -> None:
    line = Masking(logging.Formatter("[%(levelname)s] %(message)s")).format(with_error("https://h/b?secret=2"))
    assert line == "[ERROR] https://h/b?***\nValueError: https://h/a?***"
    assert "secret" not in line


def test_dressing_twice_is_dressing_once() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("a.logger.of.a.test")
    logger.addHandler(handler)
    root = [(each, each.formatter) for each in logging.getLogger().handlers]
    try:
        dress(as_json=False)
        first = handler.formatter
        dress(as_json=True)
        assert isinstance(first, Masking)
        assert handler.formatter is first
    finally:
        logger.removeHandler(handler)
        for each, formatter in root:
            each.setFormatter(formatter)


def test_an_attempt_at_the_broker_is_one_line() -> None:
    made = record(CONNECTION_ERROR, "redis://:secret@host/0", "Error 111.", "Trying again in 2.00 seconds... (1/None)")
    line = Masking(logging.Formatter("%(message)s")).format(made)
    assert line == "consumer: Cannot connect to redis://***@host/0: Error 111. Trying again in 2.00 seconds... (1/None)"
