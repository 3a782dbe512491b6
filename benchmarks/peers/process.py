"""A peer as processes: started, looked at, and ended as by `kill -9`."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from benchmarks.peers.doors import Door

SHARED_MEMORY, TRITON_REGION = Path("/dev/shm"), "pytrtion{}-*"  # noqa: S108 - where Triton leaves it
RESOURCE_TRACKER = "multiprocessing.resource_tracker"
TORCH_LIBRARY = "libtorch_cpu"
MEGABYTE = 1 << 20


class PeerProcess:
    """One process and all that it starts; as a context manager it leaves none behind.

    Args:
        command: what to run.
        env: its whole environment.
        folder: where it runs, and its log lies.
        door: told of the process.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, door: Door) -> None:
        self._command, self._env, self._folder, self._door = command, env, folder, door
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def running(self) -> bool:
        """True if the first process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_tail(self) -> str:
        """The end of what it printed."""
        return "\n".join((self._folder / "peer.log").read_text(errors="replace").splitlines()[-30:])

    def start(self) -> None:
        """Start it, for the first time or again."""
        with (self._folder / "peer.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.PIPE if self._door.pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._door.pipes else log,
                stderr=log,
                start_new_session=True,
            )
        self._door.attach(self._process)

    def kill(self) -> None:
        """End the process and whatever it has started, at once."""
        tree = self._tree()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                # These end by themselves then, and take the others' shared memory with them.
                if not any(RESOURCE_TRACKER in word for word in process.cmdline()):
                    process.kill()
        psutil.wait_procs(tree, timeout=20)
        for process in tree:
            for region in SHARED_MEMORY.glob(TRITON_REGION.format(process.pid)):
                region.unlink()
        if self._process is not None:
            self._process.wait(20)
            if self._process.stdin is not None:
                self._process.stdin.close()

    def memory_mb(self) -> float:
        """Its share of the machine's memory; pages that several of its processes share count once."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / MEGABYTE

    def model_copies(self) -> int:
        """The number of its processes that have loaded torch, and so a model."""
        found = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += any(TORCH_LIBRARY in mapped.path for mapped in process.memory_maps())
        return found

    def processor_s(self) -> float:
        """Processor time so far, of those that still run."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def check(self) -> None:
        """Raise when it has ended by itself."""
        if not self.running:
            message = f"the peer has ended:\n{self.log_tail}"
            raise RuntimeError(message)

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or not psutil.pid_exists(self._process.pid):
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        return []
