"""The control groups that bind this process, of both versions of cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERSHIP = Path("/proc/self/cgroup")
"""The file that names the process's control groups."""
MOUNT = Path("/sys/fs/cgroup")
"""The folder where the control group hierarchies are mounted."""


def folders(controller: str, membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> Iterator[Path]:
    """Every folder whose limits bind the process: its own groups and all above them.

    Args:
        controller: ``cpu`` or ``memory``.
        membership: as `MEMBERSHIP`.
        mount: as `MOUNT`.
    """
    for line in content(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Inside a container the path may be the host's while the mount shows only our part: the top is asked as well.
        root = mount / controllers if controllers else mount
        group = root / path.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def content(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
