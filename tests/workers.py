"""The real worker, started with the real command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

__all__ = ["COMMAND", "Worker", "to_toml", "wait_for"]

COMMAND = ("-m", "celery", "-A", "legit_embedding", "worker", "--pool=gpubatch")
ROOT = Path(__file__).parent.parent


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Write nested settings as TOML; what is None is left out."""
    # A JSON string, number, boolean or list of them is also TOML; paths are written as strings.
    values = {key: value for key, value in table.items() if value is not None and not isinstance(value, dict)}
    lines = [f"{json.dumps(key)} = {json.dumps(value, default=str)}\n" for key, value in values.items()]
    header = f"[{'.'.join(map(json.dumps, path))}]\n" if path and lines else ""
    tables = (to_toml(value, (*path, key)) for key, value in table.items() if isinstance(value, dict))
    return header + "".join(lines) + "".join(tables)


class Worker:
    """One worker process; as a context manager it leaves no process behind."""

    def __init__(
        self,
        redis_url: str,
        directory: Path,
        config: Mapping[str, Any] | None = None,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Describe a worker; `start`, or entering it, starts it.

        Args:
            redis_url: where its streams, its broker and its results are.
            directory: for its settings and its log; made if absent.
            config: what its ``legit.toml`` holds (CONTRACT section 8).
            args: more arguments of the command.
            env: more environment variables. The test's own ``LEGIT_`` and ``CELERY_`` variables are not passed on.
            command: what the interpreter runs.
        """
        self.directory = directory
        self._config = {"redis_url": redis_url} | dict(config or {})
        self._command = [sys.executable, *command, *args]
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.kill()
        if kind is not None:
            print(f"--- the end of {self.log_file}\n{self.log_tail()}")

    @property
    def pid(self) -> int:
        """The worker's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; None while the worker runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """What the worker prints; a restart appends."""
        return self.directory / "worker.log"

    @property
    def log(self) -> str:
        """What the worker has printed since its last start."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.splitlines()[-lines:])

    def start(self) -> None:
        """Start the process, without waiting for it to be ready."""
        assert not self.running, "the worker is running already"
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "legit.toml").write_text(to_toml(self._config))
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, timeout: float = 180) -> Self:
        """Wait until the worker says that it is ready."""
        try:
            wait_for(self._is_ready, timeout, "the worker to be ready")
        except AssertionError as error:
            error.add_note(f"its log ends:\n{self.log_tail()}")
            raise
        return self

    def wait_for_log(self, text: str, timeout: float = 30) -> None:
        """Wait until the worker has printed `text`."""
        wait_for(lambda: text in self.log, timeout, f"{text!r} in {self.log_file}")

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker's main process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 120) -> int:
        """Wait for the process to end by itself; returns its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            message = f"the worker did not end within {timeout:g} s:\n{self.log_tail()}"
            raise AssertionError(message) from None

    def stop(self, number: int = signal.SIGTERM, timeout: float = 120) -> int:
        """Send the signal, wait for the end and return the exit code."""
        self.send_signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End the worker and whatever it started, at once, as ``kill -9`` does."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _is_ready(self) -> bool:
        if not self.running:
            message = f"the worker ended with code {self.returncode} before it was ready"
            raise AssertionError(message)
        return " ready." in self.log

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LEGIT_", "CELERY_"))}
        ours = {
            "CELERY_WORKER_LOGLEVEL": "INFO",  # as --loglevel=INFO, so that the command line stays the literal one
            "HF_HUB_OFFLINE": "1",
            "LEGIT_CONFIG": str(self.directory / "legit.toml"),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return inherited | ours | self._env
