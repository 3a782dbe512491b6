"""The worker's log: no secrets in it, and JSON on request.

Celery sets logging up; this changes how its handlers format what they get.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "***"
CONTEXT = ("task_id", "task_name", "model", "code")
"""What a record may say of its task: with ``extra``, or by Celery."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_OF_SEVERAL_LINES = frozenset({"celery.worker", "celery.apps.worker"})
"""Loggers whose own texts have several lines, without anything of a producer in them."""
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_WITHOUT = frozenset({"", "-", "???"})
"""What Celery's formatter writes where there is no task."""


def mask(text: str) -> str:
    """Text whose URLs have lost their passwords and query strings: links to private images are signed there."""
    return _URL.sub(_masked, text) if "://" in text else text


def _masked(match: re.Match[str]) -> str:
    # A password may hold any of the characters that end a host, so the last @ counts, wherever it is.
    url = match[0]
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if at and not _is_path(credentials):
        rest = f"{HIDDEN}@{place}"
    return f"{scheme}://{_QUERY.sub(lambda found: found[0][0] + HIDDEN, rest)}"


def _is_path(before_at: str) -> bool:
    """Whether an @ belongs to the path of an address without credentials, as in ``https://host/@user``."""
    return "/" in before_at and ":" not in before_at.partition("/")[0]


def one_line(text: str) -> str:
    """Text in which no control character is left to end a line or to steer a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Masking(logging.Formatter):
    """Another formatter's lines, masked; a message is one line, whatever was put into it."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its traceback."""
        plain = logging.makeLogRecord(vars(record))
        # Our own sentences may have several lines, what is put into them may not.
        plain.msg, plain.args = _written(record), None
        return mask(self._inner.format(plain))


def _written(record: logging.LogRecord) -> str:
    if not record.args:
        return one_line(str(record.msg)) if record.name not in _OF_SEVERAL_LINES else str(record.msg)
    args = record.args
    try:
        if isinstance(args, Mapping):
            return str(record.msg) % {key: _safe(value) for key, value in args.items()}
        return str(record.msg) % tuple(map(_safe, args))
    except (TypeError, ValueError, KeyError):
        return one_line(record.getMessage())


def _safe(value: object) -> object:
    """What a format may print: numbers as they are, everything else as one line."""
    if isinstance(value, (int, float)):
        return value
    return _OneLine(value)


class _OneLine:
    """Prints another object in one line, by ``%s`` and by ``%r``."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return one_line(str(self._value))

    def __repr__(self) -> str:
        return one_line(repr(self._value))


class JsonLines(logging.Formatter):
    """One JSON object a record.

    Its keys: ``time``, ``level``, ``logger``, ``thread``, ``message``, and, where there are any, ``task_id``,
    ``task_name``, ``model``, ``code`` (of an error) and ``error`` (its traceback).
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": mask(record.getMessage()),
        }
        line |= {key: value for key in CONTEXT if (value := str(getattr(record, key, ""))) not in _WITHOUT}
        if record.exc_info:
            line["error"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def dress(*, as_json: bool) -> None:
    """Put our formatters over those of every handler there is. Idempotent."""
    for handler in set(_handlers()):
        inner = handler.formatter or logging.Formatter()
        if not isinstance(inner, Masking | JsonLines):
            handler.setFormatter(JsonLines() if as_json else Masking(inner))


def _handlers() -> Iterator[logging.Handler]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
