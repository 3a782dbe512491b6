"""Nothing that arrives writes a line of its own into the log."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from billiard.einfo import ExceptionInfo
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from legit_embedding.telemetry.logs import JsonLines, Masking, escape

FORGED = "[2026-01-01 00:00:00: CRITICAL] forged"
FORMAT = "[%(levelname)s] %(message)s"


def record(message: str, *args: object, error: object = None, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("a.logger", logging.ERROR, "file.py", 1, message, args, None)
    made.exc_info = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else error
    vars(made).update(extra)
    return made


def lines(made: logging.LogRecord, formatter: logging.Formatter | None = None) -> list[str]:
    return Masking(formatter or logging.Formatter(FORMAT)).format(made).splitlines()


def fail(error: Exception) -> None:
    raise error


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        fail(error)
    return caught.value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
        ("\x1b[31mred\x00\x7f\x85", r"\x1b[31mred\x00\x7f\x85"),
        ("line\u2028paragraph\u2029 \u202eturned\u2066", r"line\u2028paragraph\u2029 \u202eturned\u2066"),
        ("half \ud83d", r"half \ud83d"),
        ("Grüße, 世界, 🚲, שלום", "Grüße, 世界, 🚲, שלום"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert escape(text) == shown


def test_an_argument_stays_on_its_line_and_the_templates_own_lines_stay():
    made = record("Task %s ended:\nsee %s", f"a\n{FORGED}", "there")
    assert lines(made) == [rf"[ERROR] Task a\n{FORGED} ended:", "see there"]
    assert lines(record(f"no arguments\n{FORGED}")) == [rf"[ERROR] no arguments\n{FORGED}"]
    context = {"id": f"x\n{FORGED}", "name": "t"}
    assert lines(record("Task %(name)s[%(id)s] received", context)) == [rf"[ERROR] Task t[x\n{FORGED}] received"]


def test_what_a_formatter_adds_is_escaped_too():
    made = record("done", task_id=f"x\n{FORGED}", task_name="t")
    formatter = TaskFormatter("%(task_name)s(%(task_id)s) %(message)s", use_color=False)
    assert lines(made, formatter) == [rf"t(x\n{FORGED}) done"]


def test_a_terminal_keeps_its_colours_and_gets_none_from_outside():
    line = Masking(ColorFormatter(FORMAT, use_color=True)).format(record("%s", "\x1b[2J"))
    assert line.startswith("\x1b[")
    assert line.endswith("\x1b[0m")
    assert r"\x1b[2J" in line
    assert "\x1b[2J" not in line
    assert lines(record("%s", "\x1b[0;31mx\x1b[0m"), ColorFormatter(FORMAT, use_color=False)) == [
        r"[ERROR] \x1b[0;31mx\x1b[0m"
    ]


def test_a_traceback_has_its_own_lines_and_no_others():
    cause = raised(KeyError("k"))
    error = ValueError(f"first\n{FORGED}")
    error.__cause__ = raised(RuntimeError(f"cause\r{FORGED}"))
    error.__cause__.__context__ = cause
    error.add_note(f"note\n{FORGED}")
    shown = lines(record("it failed", error=raised(error)))
    assert shown[0] == "[ERROR] it failed"
    assert shown.count("Traceback (most recent call last):") == 3
    assert "    raise error" in shown
    assert rf"ValueError: first\n{FORGED}" in shown
    assert rf"RuntimeError: cause\r{FORGED}" in shown
    assert rf"note\n{FORGED}" in shown
    assert not [line for line in shown if line.startswith("[2026")]


def test_a_group_of_errors():
    error = raised(ExceptionGroup(f"all\n{FORGED}", [ValueError(f"one\n{FORGED}")]))
    shown = lines(record("it failed", error=error))
    assert not [line for line in shown if line.lstrip(" |").startswith("[2026")]


def test_celerys_error_of_a_task_stays_readable():
    try:
        fail(ValueError(f"first\n{FORGED}"))
    except ValueError:
        einfo = ExceptionInfo(sys.exc_info())
    shown = lines(record("Task handler raised error: %r", ValueError("x"), error=einfo.exc_info))
    assert rf"ValueError: first\n{FORGED}" in shown
    assert len(shown) > 5
    assert not [line for line in shown if line.startswith("[2026")]


def test_json_is_escaped_alike():
    made = record("Task %s", f"a\n{FORGED}\u2028", task_id=f"x\n{FORGED}", error=raised(ValueError(f"e\n{FORGED}")))
    text = JsonLines().format(made)
    assert text.splitlines() == [text]
    line = json.loads(text)
    assert line["message"] == rf"Task a\n{FORGED}\u2028"
    assert line["task_id"] == rf"x\n{FORGED}"
    assert line["error"].splitlines()[0] == "Traceback (most recent call last):"
    assert line["error"].splitlines()[-1] == rf"ValueError: e\n{FORGED}"
