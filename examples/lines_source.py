"""A source in one file: the lines of a text file, each a task object in JSON, and whatever is appended to it later.

A line counts as done when Redis has confirmed its answer: its number is then added to a file beside it, and the line is
not read again after a restart. A line that was embedded but not noted is answered again: at least once.

To have a worker read ``tasks.jsonl``, start it with an application that has the step, and LINES_FILE set:

    # worker.py
    from legit_embedding.celery import app
    from lines_source import LinesStep

    app.steps["worker"].add(LinesStep)

    LINES_FILE=tasks.jsonl celery -A worker worker --pool=gpubatch
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from legit_embedding import process
from legit_embedding.errors import TaskError
from legit_embedding.pipeline.protocols import SourceStats
from legit_embedding.redis_io.health import Outage
from legit_embedding.wire.result import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.errors import GivenBackError
    from legit_embedding.pipeline.caller import Caller, HandedOver
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.pipeline.protocols import Source
    from legit_embedding.redis_io.health import Health
    from legit_embedding.wire.result import Written

LOOK_AGAIN_S = 0.2
"""The time that to wait for room, or for more lines, before looking again."""


class LinesSource:
    """Brings the lines of one file to a pipeline, in a thread of its own.

    Args:
        path: the file. It need not be there yet.
        pipeline: takes the tasks.
    """

    name = "lines-source"

    def __init__(self, path: Path, pipeline: Pipeline) -> None:
        self._path = path
        self._done_path = path.with_name(f"{path.name}.done")
        self._pipeline = pipeline
        self._again: deque[tuple[int, str]] = deque()
        """Lines that were given back."""
        self._held: dict[int, str] = {}
        self._read = 0
        self._submitting = Lock()
        """Held while a task is submitted, so that `stop_reading` can wait for that."""
        self._noting = Lock()
        """Guards what is held and the notes; a task may end while it is being submitted."""
        self._changed = Event()
        self._is_stopping = False
        self._outage = Outage(f"the file {path}")
        self._thread = Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """There may be room again."""
        self._changed.set()

    def stop_reading(self) -> None:
        """Bring nothing more."""
        with self._submitting:
            self._is_stopping = True
        self._changed.set()

    def close(self, timeout: float) -> None:
        """End the thread. What is not noted as done is read again at the next start."""
        self.stop_reading()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """True if the thread runs."""
        return self._thread.is_alive()

    def health(self) -> Health:
        """True if the file can be read."""
        return self._outage.health

    def stats(self) -> SourceStats:
        """Counters of this moment."""
        return SourceStats(read=self._read, held=len(self._held), waiting=len(self._again))

    def done(self, number: int) -> None:
        """The line's answer is confirmed: note that, so that it is never read again."""
        with self._noting:
            del self._held[number]
            with self._done_path.open("a", encoding="ascii") as file:
                file.write(f"{number}\n")

    def given_back(self, number: int) -> None:
        """The line was not answered: try it again, if this worker goes on."""
        with self._noting:
            self._again.append((number, self._held.pop(number)))

    def _run(self) -> None:
        lines = self._lines()
        while not self._is_stopping:
            self._changed.clear()
            line = self._next(lines) if self._pipeline.room() > 0 else None
            if line is None:
                self._changed.wait(LOOK_AGAIN_S)
            else:
                self._submit(*line)

    def _next(self, lines: Iterator[tuple[int, str] | None]) -> tuple[int, str] | None:
        return self._again.popleft() if self._again else next(lines)

    def _lines(self) -> Iterator[tuple[int, str] | None]:
        """Every line that is not done, with its number; None while there is nothing to read. Never ends."""
        position, number = 0, 0
        while True:
            try:
                done = (
                    {int(text) for text in self._done_path.read_text().split()} if self._done_path.exists() else set()
                )
                with self._path.open("rb") as file:
                    file.seek(position)
                    while (line := file.readline()).endswith(b"\n"):  # one without an end is still being written
                        position, number = file.tell(), number + 1
                        if number not in done and line.strip():
                            yield number, line.decode("utf-8", "replace")
                self._outage.over()
            except OSError as error:
                self._outage.failed(str(error))
            yield None

    def _submit(self, number: int, line: str) -> None:
        origin, caller = Origin("local", f"{self._path.name}:{number}"), LineCaller(self, number)
        with self._submitting:
            if self._is_stopping:
                return
            self._held[number] = line
            self._read += 1
            try:
                task = json.loads(line)
            except ValueError as error:
                problem = TaskError("invalid_task", f"line {number}: not JSON: {error}")
                self._pipeline.refuse(None, origin, problem, caller)
            else:
                self._pipeline.submit(task, origin, caller)


class LineCaller:
    """Tells the source how the task of one line ended. Called from one of the pipeline's threads."""

    def __init__(self, source: LinesSource, number: int) -> None:
        self._source = source
        self._number = number

    def written(self, written: Written) -> None:  # noqa: ARG002 - a bad answer is an answer too
        """The answer is confirmed."""
        self._source.done(self._number)

    def handed_over(self, handed: HandedOver) -> None:  # noqa: ARG002
        """A prep-only worker answers nothing itself, so the line is not done."""
        self._source.given_back(self._number)

    def given_back(self, error: GivenBackError) -> None:  # noqa: ARG002
        """The task is unanswered."""
        self._source.given_back(self._number)


class LinesStep(bootsteps.StartStopStep):
    """Starts the source with a worker whose pool has a pipeline."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's worker
        """Start reading; the pipeline stops the source."""
        if process.is_running():
            pipeline = process.current()
            pipeline.add_source(LinesSource(Path(os.environ["LINES_FILE"]), pipeline))

    def close(self, parent: Any) -> None:  # noqa: ANN401, ARG002
        """Called first at a shutdown."""
        if process.is_running():
            process.current().stop_reading()


if TYPE_CHECKING:
    _source: type[Source] = LinesSource
    _caller: type[Caller] = LineCaller
