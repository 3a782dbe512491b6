"""The worker's end of the process that children are forked from."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_S = 300.0
"""The time that the libraries and the recipes may take to load, in seconds."""
END_S = 2.0
_LONGEST_REPORT = 1 << 16
_OURS = ("LEGIT_", "CELERY_")
_CHILDS_OWN = {
    "CUDA_VISIBLE_DEVICES": "",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Forking:
    """Starts the process, and gives it orders; not to be used by two threads at once, but for `order`.

    Args:
        models: the settings of each model, as JSON has them.

    Raises:
        ConfigError: it does not start, or cannot make a recipe.
    """

    def __init__(self, models: Mapping[str, Any]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A session of its own: a Ctrl-C at the terminal is the worker's to handle.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a number
                [sys.executable, "-m", "legit_embedding.prep_processes.forker", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=environment(os.environ, sys.path),
                start_new_session=True,
            )
        try:
            self._greet(json.dumps(models).encode())
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def order(self, fields: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Give an order; one to a process that is gone is lost, and `report` says that it is."""
        with suppress(OSError):
            socket.send_fds(self._control, [json.dumps(fields).encode()], descriptors)

    def report(self, within: float | None) -> dict[str, Any] | None:
        """Wait for a report, for so many seconds at most; None if there is none.

        Raises:
            EOFError: the process is gone.
        """
        try:
            self._control.settimeout(within)
            report = self._control.recv(_LONGEST_REPORT)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as error:
            raise EOFError from error
        if not report:
            raise EOFError
        fields: dict[str, Any] = json.loads(report)
        return fields

    def hang_up(self) -> None:
        """Tell the process, and whoever waits for its reports, that it is over."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the process and all its children."""
        self.hang_up()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel ends its children with it
            self._process.wait()
        self._control.close()

    def _greet(self, settings: bytes) -> None:
        requests = self._process.stdin
        assert requests is not None  # noqa: S101 - asked for above
        with suppress(OSError), requests:
            requests.write(settings)
        started = time.monotonic()
        try:
            report = self.report(START_S)
        except EOFError:
            detail = f"it ended with code {self._process.wait()}; what it said is above"
            raise ConfigError(f"prep.processes: the process does not start: {detail}") from None
        if report is None:
            detail = f"not ready after {time.monotonic() - started:.0f} s"
            raise ConfigError(f"prep.processes: the process does not start: {detail}")
        if "failed" in report:
            raise ConfigError(f"prep.processes: {report['failed']}")


def environment(given: Mapping[str, str], path: Sequence[str]) -> dict[str, str]:
    """The environment of the process: no settings of ours and of Celery's, which have passwords, and no GPU."""
    kept = {name: value for name, value in given.items() if not name.startswith(_OURS)}
    # It finds what this process finds, wherever that was told to look.
    return kept | _CHILDS_OWN | {"PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in path)}
