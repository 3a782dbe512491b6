"""The container or host of a process, by which a health check finds the worker beside it."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")


def place() -> str:
    """Name this container or host: the same for all its processes, whatever their settings, and for no others.

    That is the host name, this boot of the kernel, and the namespace of process ids: every container has its own.
    """
    boot = processes = ""
    with suppress(OSError):
        boot = _BOOT.read_text(encoding="ascii").strip()
    with suppress(OSError):
        processes = str(_PROCESSES.readlink())
    return f"{socket.gethostname()} {boot} {processes}".strip()
