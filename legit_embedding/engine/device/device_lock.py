"""Per-host GPU lock: at most one worker per GPU, unless sharing is enabled."""

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
    """Exclusive claim of one process on a GPU, released at process exit at the latest.

    The claim is a lock on one file per GPU in the temporary directory. Processes with separate temporary directories,
    for example in different containers, do not see each other's locks.

    Args:
        uuid: the UUID of the GPU.
    """

    def __init__(self, uuid: str) -> None:
        self._path = Path(tempfile.gettempdir()) / f"legit_embedding-{os.getuid()}-{uuid}.lock"
        self._file: int | None = None

    def take(self) -> bool:
        """Lock the GPU. Returns False if another process holds it."""
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
        """Describe the process that holds the lock."""
        try:
            return f"process {int(self._path.read_text())}"
        except (OSError, ValueError):
            return "another process"

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def hold(wanted: str, choice: Choice, *, share: bool) -> Hold | None:
    """Lock the chosen device for this process. Returns None for a CPU, or for a taken device that is used anyway.

    Args:
        wanted: the device setting; a device that is named explicitly may be used even if it is taken.
        choice: the device chosen from that setting.
        share: allow other workers on the device.

    Raises:
        ConfigError: the setting is ``auto`` and the device is taken.
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
