"""The worker's log: no secrets in it, no line that the worker has not written, and JSON on request.

Celery sets logging up; this changes how its handlers format what they get.
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


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, other ends of a line, what turns the direction of text, and halves of characters."""
_CONTROL_BUT_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_COLOURED = re.compile(r"(\x1b\[[0-9;]*m)(.*)(\x1b\[0m)", re.DOTALL)
_BREAK = f"\ue000{secrets.token_hex(8)}\ue000"
"""Stands for the line breaks of a message's own template, which no argument can know."""


def escape(text: str) -> str:
    """Text on one line: each control character in it is written as in a Python literal."""
    return _CONTROL.sub(_escaped, text) if _CONTROL.search(text) else text


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")  # noqa: PLR2004 - a byte


def escape_traceback(text: str, error: BaseException | None) -> str:
    """A traceback with the lines that it is made of, and none that an error's own text brings."""
    for each in _with_causes(error):
        for own in (f": {each}", *(note for note in map(str, getattr(each, "__notes__", ())) if note.strip())):
            if _CONTROL.search(own):
                text = re.sub(_in_a_group(own), lambda _, own=own: escape(own), text)  # type: ignore[misc]
    return _CONTROL_BUT_LINES.sub(_escaped, text)


def _in_a_group(text: str) -> str:
    """A pattern of the text as a traceback shows it, in a group of errors with a margin before each line."""
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
    """The record without its traceback, and with its template's line breaks told apart from its arguments'."""
    marked = copy.copy(record)
    if record.args and isinstance(record.msg, str):
        marked.msg = record.msg.replace("\n", _BREAK)
    marked.exc_info = marked.exc_text = marked.stack_info = None
    return marked


def _traceback(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    """A record's traceback and stack, if it has them."""
    parts = []
    if record.exc_info:
        parts.append(escape_traceback(formatter.formatException(record.exc_info), record.exc_info[1]))
    elif record.exc_text:
        parts.append(escape_traceback(record.exc_text, None))
    if record.stack_info:
        parts.append(escape_traceback(formatter.formatStack(record.stack_info), None))
    return mask("\n".join(parts))


class Masking(logging.Formatter):
    """Another formatter's lines, masked and escaped."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its traceback on lines of its own."""
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
        """The line."""
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
