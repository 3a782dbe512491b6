"""The output of libraries while a model is loaded, gathered into one line."""

from __future__ import annotations

import io
import logging
import re
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from legit_embedding.progress import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = ("legit_embedding", "celery", "kombu")
_MOST = 400
"""Characters shown."""
_BAR = re.compile(r"\d+%\|")
"""A progress bar, as of a download: a terminal shows it, and its many states say nothing afterwards."""


@contextmanager
def gathered(model: str) -> Iterator[None]:
    """Hold back what libraries log, warn and print in the block, and log it as one line at the end.

    Progress bars are shown where standard error is a terminal. Nothing is held back at the level DEBUG.
    """
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        yield
        return
    said = _Said()
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            handler.addFilter(said)
            stack.callback(handler.removeFilter, said)
        stack.enter_context(redirect_stdout(said.printed))
        stack.enter_context(redirect_stderr(said.printed))
        stack.callback(said.tell, model)
        yield


class _Printed(io.StringIO):
    def isatty(self) -> bool:
        """As the process's own standard error: huggingface_hub draws no bars otherwise."""
        return sys.__stderr__ is not None and sys.__stderr__.isatty()

    def write(self, text: str) -> int:
        """Keep a text; a bar is drawn at once."""
        if sys.__stderr__ is not None and _BAR.search(text) and self.isatty():
            sys.__stderr__.write(text)
        return super().write(text)


class _Said(logging.Filter):
    """Keeps the records of other libraries, and what they print."""

    def __init__(self) -> None:
        super().__init__()
        self.printed = _Printed()
        self._logged: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep a library's record from the log."""
        if record.name.split(".")[0] in _OURS:
            return True
        self._logged.append(f"{record.name}: {record.getMessage()}" if record.name != "root" else record.getMessage())
        return False

    def tell(self, model: str) -> None:
        printed = (line for line in re.split(r"[\r\n]", self.printed.getvalue()) if not _BAR.search(line))
        lines = dict.fromkeys(" ".join(line.split()) for line in (*self._logged, *printed) if line.strip())
        if lines:
            text = "; ".join(lines)
            logger.info("While %s was loading: %s", model, text if len(text) <= _MOST else f"{text[:_MOST]}...")
