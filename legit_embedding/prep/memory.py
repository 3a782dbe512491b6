"""The main memory that this process may use: the host's, or its container's limit where that is smaller."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from legit_embedding.prep.cgroups import MEMBERSHIP, MOUNT, content, folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files of a limit and of what is used, by version of cgroups: the second and the first."""

_PRIMITIVES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
KEPT_PRIMITIVES = 16
"""Operations that oneDNN keeps compiled, those of the last few shapes; more than one forward pass has kinds of."""


_HEAPS, _M_ARENA_MAX = "MALLOC_ARENA_MAX", -8
"""The most heaps of glibc's allocator: the variable, and the parameter of `mallopt` (malloc.h)."""


def keep_few_primitives() -> None:
    """Let oneDNN keep the code of few batch shapes; to be called before torch computes anything.

    It compiles operations for each shape, of MiniLM in float32 the GELU, and nearly every batch of texts has a shape of
    its own. By default it keeps 1,024. Each takes 28 KB and, worse, lies between the memory of large batches, so that
    the allocator cannot return what these have freed. docs/reliability.md has the figures. An operator's own setting in
    the environment wins.
    """
    os.environ.setdefault(_PRIMITIVES, str(KEPT_PRIMITIVES))


def keep_one_heap() -> None:
    """Let all threads allocate from one heap, where glibc allocates; to be called before a thread is started.

    By default each thread has a heap of its own, up to eight for each core, and the free end of any but the first never
    goes back to the system: `return_free_memory` reaches only the free pages before it. docs/reliability.md has the
    figures. An operator's own setting in the environment wins.
    """
    if _HEAPS in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(OSError, TypeError, AttributeError):  # musl, macOS and Windows have none
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Give what has been freed back to the system, as far as whole pages are free; where glibc allocates, else nothing.

    By itself glibc returns only what lies at the end of a heap, and something small nearly always lies behind what a
    large batch has freed. It takes milliseconds, during which other threads may wait for an allocation, but none for
    the GIL. docs/reliability.md has the figures.
    """
    trim = _glibc_trim()
    if trim is not None:
        trim(0)


@cache
def _glibc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # musl, macOS and Windows have none
        return None
    return trim


def counted_memory(membership: Path = MEMBERSHIP, mount: Path = MOUNT, meminfo: Path = _MEMINFO) -> tuple[int, str]:
    """The bytes that may be used, and what limits them, for the log; 0 bytes if nothing says so."""
    host = _of_host("MemTotal", meminfo)
    limit = min((limit for _, limit, _ in _groups(membership, mount)), default=0)
    if limit and (not host or limit < host):
        return limit, "the memory limit of the control group"
    return host, "the host's memory" if host else "unknown"


def available_memory(membership: Path = MEMBERSHIP, mount: Path = MOUNT, meminfo: Path = _MEMINFO) -> int | None:
    """The bytes that are not in use, those of the file cache included; None if nothing says so."""
    left = [max(0, limit - used + _cached(folder)) for folder, limit, used in _groups(membership, mount)]
    host = _of_host("MemAvailable", meminfo)
    return min([*left, *([host] if host else [])], default=None)


def _groups(membership: Path, mount: Path) -> Iterator[tuple[Path, int, int]]:
    for folder in folders("memory", membership, mount):
        for limit_file, used_file in _LIMITS:
            limit, used = content(folder / limit_file).strip(), content(folder / used_file).strip()
            if limit.isdigit():  # "max" is none; the first version says a number beyond any host's memory
                yield folder, int(limit), int(used) if used.isdigit() else 0


def _cached(folder: Path) -> int:
    """The bytes of files that the kernel would drop first, which count as used."""
    stat = dict(line.split(maxsplit=1) for line in content(folder / "memory.stat").splitlines() if " " in line)
    return int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)


def _of_host(name: str, meminfo: Path) -> int:
    for line in content(meminfo).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024  # the unit is kB, always
    return 0
