"""The worker's log: no secrets in it, and JSON on request.

Celery sets logging up; this changes how its handlers format what they get.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "***"
CONTEXT = ("task_id", "task_name", "model", "code")
"""What a record may say of its task: with ``extra``, or by Celery."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
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


class Masking(logging.Formatter):
    """Another formatter's lines, masked."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its traceback."""
        return mask(self._inner.format(record))


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
