"""Who computes on a GPU: at most one worker of a host, unless they are to share it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from legit_embedding.engine.device.choice import Choice

AUTO = "auto"


class Hold:
    """One process's claim on a GPU, which ends with the process at the latest.

    A file for each GPU is locked. Processes that don't share their folder for temporary files, because each has a
    container of its own, do not see each other's.

    Args:
        uuid: the GPU's.
    """

    def __init__(self, uuid: str) -> None:
        self._path = Path(tempfile.gettempdir()) / f"legit_embedding-{os.getuid()}-{uuid}.lock"
        self._file: int | None = None

    def take(self) -> bool:
        """Take the GPU, if nobody has it."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        self._file = file
        return True

    def holder(self) -> str:
        """The process that has it, for people."""
        try:
            return f"process {int(self._path.read_text())}"
        except (OSError, ValueError):
            return "another process"

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def hold(wanted: str, choice: Choice, *, share: bool) -> Hold | None:
    """Take the chosen device for this process; None for a CPU, and where it is somebody else's already.

    Args:
        wanted: what the settings say; whoever names a device may have it all the same.
        choice: what that came to.
        share: whether another worker may be there.

    Raises:
        ConfigError: the settings leave the choice to us, and the device is taken.
    """
    if not choice.uuid:
        return None
    held = Hold(choice.uuid)
    if held.take():
        return held
    if wanted != AUTO or share:
        return None
    message = (
        f"device: 'auto' comes to {choice.device} ({choice.name}, {choice.uuid}), where {held.holder()} of this host "
        "computes already: name another one (legit-embedding devices lists them), or set engine.share = true"
    )
    raise ConfigError(message)
