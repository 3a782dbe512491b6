"""The answers that a run of ``embed`` has received so far, on disk: a killed run goes on from them."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.lib.format import open_memmap

from legit_embedding.cli.embed.failures import UNREADABLE, Failure, Failures
from legit_embedding.cli.shared.space import Form, Space
from legit_embedding.models.config import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from legit_embedding.cli.results.results import ResultEntry

FAILED = 255
"""State of an input that was answered with an error; 0 is unanswered, and others are 1 + the index of the kind."""


@dataclass(frozen=True, slots=True)
class Run:
    """The identity of a run: two calls with the same are one."""

    source: str
    contents: str
    """A digest."""
    size: int
    model: str | None
    by: str | None


class Journal:
    """The states and vectors of a run's inputs, by position.

    Vectors and states are memory-mapped, so a million of them take no memory of the process's own, and they survive
    the death of the process at any moment.

    Args:
        folder: where it is kept; made if absent.
        run: the run that it must belong to.
        stream: the result stream of a run that begins now.

    Raises:
        ClickException: it belongs to another run, or another process is at work on it.
    """

    def __init__(self, folder: Path, run: Run, stream: str) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._lock = _locked(folder)
        self._states: NDArray[np.uint8]
        self._vectors: NDArray[np.float32] | None = None
        self.form: Form | None = None
        try:
            self.stream = self._go_on(run) if self._file("run.json").exists() else self._begin(run, stream)
        except BaseException:
            self._lock.close()
            raise
        self.failures = Failures(self._file("failures.jsonl"))
        self.answered = int(np.count_nonzero(self._states))

    def _begin(self, run: Run, stream: str) -> str:
        self._states = open_memmap(self._file("states.npy"), "w+", np.uint8, (run.size,))
        self._write("run.json", asdict(run) | {"stream": stream})
        return stream

    def _go_on(self, run: Run) -> str:
        known = self._read("run.json")
        stream = str(known.pop("stream"))
        if known != asdict(run):
            changed = ", ".join(name for name, value in asdict(run).items() if known.get(name) != value)
            message = f"{self._folder} belongs to an unfinished run, which differs in {changed}; --force begins anew"
            raise click.ClickException(message)
        self._states = open_memmap(self._file("states.npy"), "r+")
        if self._file("form.json").exists():
            form = self._read("form.json")
            self.form = Form(Space(**form["space"]), form["encoding"])
            self._vectors = open_memmap(self._file("vectors.npy"), "r+")
        return stream

    @property
    def received(self) -> int:
        """The number of vectors."""
        return int(np.count_nonzero(self._states) - np.count_nonzero(self._states == FAILED))

    def knows(self, position: int) -> bool:
        """True if the input at a position was answered."""
        return bool(self._states[position - 1])

    def record(self, entry: ResultEntry) -> None:
        """Keep an answer, unless it is known.

        Raises:
            ClickException: its vector is of another model, revision, length or encoding than those before.
        """
        position = int(entry.fields["task_id"])
        if self.knows(position):
            return
        self._states[position - 1] = self._kept(position, entry)
        self.answered += 1

    def flush(self) -> None:
        """Write everything to the disk."""
        for array in (self._vectors, self._states):
            if isinstance(array, np.memmap):
                array.flush()

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The states of the inputs after position `start` up to `stop`, and their vectors, ``[stop - start, dim]``."""
        if self._vectors is None:
            return self._states[start:stop], np.zeros((stop - start, 0), np.float32)
        return self._states[start:stop], self._vectors[start:stop]

    def close(self) -> None:
        """Close the files, and let another process have them."""
        self.flush()
        self.failures.close()
        self._lock.close()

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._folder)

    def _kept(self, position: int, entry: ResultEntry) -> int:
        if entry.fields.get("status") != "ok":
            self.failures.add(Failure(position, entry.fields.get("error", ""), entry.fields.get("detail", "")))
            return FAILED
        try:
            vector = entry.vector()
        except ValueError as error:
            self.failures.add(Failure(position, UNREADABLE, str(error)))
            return FAILED
        if vector is None:
            self.failures.add(Failure(position, UNREADABLE, "the answer has no vector"))
            return FAILED
        self._room(Form.of(entry.fields, len(vector)))[position - 1] = vector
        return 1 + [str(kind) for kind in KINDS].index(entry.fields["kind"])

    def _room(self, form: Form) -> NDArray[np.float32]:
        if self._vectors is None:
            self._vectors = open_memmap(self._file("vectors.npy"), "w+", "<f4", (len(self._states), form.space.dim))
            self._write("form.json", asdict(form))
            self.form = form
        if form != self.form:
            message = f"a vector of {form} among vectors of {self.form}: a file holds vectors of one kind only"
            raise click.ClickException(message)
        return self._vectors

    def _file(self, name: str) -> Path:
        return self._folder / name

    def _read(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self._file(name).read_bytes())
        return read

    def _write(self, name: str, content: dict[str, Any]) -> None:
        new = self._file(f"{name}.new")
        new.write_text(json.dumps(content))
        new.replace(self._file(name))


def _locked(folder: Path) -> Any:  # noqa: ANN401 - an open file
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        message = f"another process is at work on {folder}"
        raise click.ClickException(message) from None
    return lock
