"""Log formatting: masks secrets, escapes control characters to prevent log injection, and writes JSON on request.

Celery sets up logging; this module changes how its handlers format records.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from billiard.einfo import ExceptionWithTraceback, RemoteTraceback
from celery.exceptions import Reject

from legit_embedding.errors import GivenBackError

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "***"
CONTEXT = ("task_id", "task_name", "model", "code")
"""Record attributes that describe its task, set with ``extra`` or by Celery."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_WITHOUT = frozenset({"", "-", "???"})
"""Placeholders that Celery's formatter writes outside of a task."""


def mask(text: str) -> str:
    """Strip passwords and query strings from the URLs in a text: links to private images carry signatures there."""
    return _URL.sub(_masked, text) if "://" in text else text


def _masked(match: re.Match[str]) -> str:
    # A password may contain any character that ends a host, so the last @ counts, wherever it is.
    url = match[0]
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if at and not _is_path(credentials):
        rest = f"{HIDDEN}@{place}"
    return f"{scheme}://{_QUERY.sub(lambda found: found[0][0] + HIDDEN, rest)}"


def _is_path(before_at: str) -> bool:
    """True if an @ belongs to the path of a URL without credentials, as in ``https://host/@user``."""
    return "/" in before_at and ":" not in before_at.partition("/")[0]


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, Unicode line separators, bidirectional controls and lone surrogates."""
_CONTROL_BUT_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_COLOURED = re.compile(r"(\x1b\[[0-9;]*m)(.*)(\x1b\[0m)", re.DOTALL)
_RETRY = "consumer: Cannot connect to %s: %s.\n%s\n"
"""Celery's message at each attempt to reach its broker."""
_RETRY_ON_ONE_LINE = "consumer: Cannot connect to %s: %s %s"
_BREAK = f"\ue000{secrets.token_hex(8)}\ue000"
"""Stands for line breaks in a message's template; random, so that no argument can contain it."""


def escape(text: str) -> str:
    """Put a text on one line, with each control character written as in a Python literal."""
    return _CONTROL.sub(_escaped, text) if _CONTROL.search(text) else text


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")  # noqa: PLR2004 - a byte


def escape_traceback(text: str, error: BaseException | None) -> str:
    """Keep a traceback's own line breaks, and escape those in the messages and notes of its errors."""
    for each in _with_causes(error):
        for own in (f": {each}", *(note for note in map(str, getattr(each, "__notes__", ())) if note.strip())):
            if _CONTROL.search(own):
                text = re.sub(_in_a_group(own), lambda _, own=own: escape(own), text)  # type: ignore[misc]
    return _CONTROL_BUT_LINES.sub(_escaped, text)


def _in_a_group(text: str) -> str:
    """Return a pattern for a text as a traceback shows it, with the margin of an exception group before each line."""
    return r"\n[ |]*".join(map(re.escape, text.split("\n")))


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, ExceptionWithTraceback | RemoteTraceback):  # its text is a traceback
            waiting.append(getattr(each, "exc", None))
        else:
            yield each
        waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def _with_marked_breaks(record: logging.LogRecord) -> logging.LogRecord:
    """Copy a record without its traceback, and mark its template's line breaks to tell them from its arguments'."""
    marked = copy.copy(record)
    if record.args and isinstance(record.msg, str):
        marked.msg = _RETRY_ON_ONE_LINE if record.msg == _RETRY else record.msg.replace("\n", _BREAK)
    marked.exc_info = marked.exc_text = marked.stack_info = None
    return marked


def _traceback(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    """Format a record's traceback and stack, if it has them."""
    parts = []
    if record.exc_info:
        parts.append(escape_traceback(formatter.formatException(record.exc_info), record.exc_info[1]))
    elif record.exc_text:
        parts.append(escape_traceback(record.exc_text, None))
    if record.stack_info:
        parts.append(escape_traceback(formatter.formatStack(record.stack_info), None))
    return mask("\n".join(parts))


class Masking(logging.Formatter):
    """Formatter that masks and escapes the output of another formatter."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with its traceback on separate lines."""
        line = self._inner.format(_with_marked_breaks(record))
        coloured = _COLOURED.fullmatch(line) if getattr(self._inner, "use_color", False) else None
        before, line, after = coloured.groups() if coloured else ("", line, "")
        line = before + escape(mask(line)).replace(_BREAK, "\n") + after
        return "\n".join(filter(None, (line, _traceback(record, self._inner))))


class JsonLines(logging.Formatter):
    """One JSON object per record.

    Its keys: ``time``, ``level``, ``logger``, ``thread``, ``message``, and, where there are any, ``task_id``,
    ``task_name``, ``model``, ``code`` (of an error) and ``error`` (its traceback).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        message = _with_marked_breaks(record).getMessage()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": escape(str(record.threadName)),
            "message": escape(mask(message)).replace(_BREAK, "\n"),
        }
        context = {key: escape(str(getattr(record, key, ""))) for key in CONTEXT}
        line |= {key: value for key, value in context.items() if value not in _WITHOUT}
        error = _traceback(record, self)
        if error:
            line["error"] = error
        return json.dumps(line, ensure_ascii=False)


def _given_back_in_one_line(record: logging.LogRecord) -> bool:
    """Let Celery's line about a task that was given back pass without its traceback, which is always the same."""
    error = record.exc_info[1] if record.exc_info else None
    error = error.exc if isinstance(error, ExceptionWithTraceback) else error
    if isinstance(error, Reject) and isinstance(error.reason, GivenBackError):
        record.exc_info = None
    return True


def dress(*, as_json: bool) -> None:
    """Install our formatters on every existing handler. Idempotent."""
    logging.getLogger("celery.app.trace").addFilter(_given_back_in_one_line)
    for handler in set(_handlers()):
        inner = handler.formatter or logging.Formatter()
        if not isinstance(inner, Masking | JsonLines):
            handler.setFormatter(JsonLines() if as_json else Masking(inner))


def _handlers() -> Iterator[logging.Handler]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
