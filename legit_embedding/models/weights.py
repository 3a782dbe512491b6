"""Additional sources of weights: a random seed or an installed package."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from legit_embedding.models.settings import misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.models.config import ModelConfig

RANDOM = "random:"
PACKAGE = "package:"
_SNAPSHOTS = "snapshots"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def random_seed(model: str, config: ModelConfig) -> int | None:
    """Return the seed of ``random:SEED``, or None if the model uses real weights.

    Raises:
        ConfigError: the seed is not a non-negative integer.
    """
    if not config.pretrained.startswith(RANDOM):
        return None
    digits = config.pretrained.removeprefix(RANDOM)
    if not digits.isdecimal():
        reason = f"expected {RANDOM}SEED with a whole number, got {config.pretrained!r}"
        raise misconfigured(model, "pretrained", reason)
    return int(digits)


def commit_of(path: str | Path) -> str:
    """Return the commit of a file or folder in the hub's cache; empty for any other path."""
    parts = Path(path).parts
    at = parts.index(_SNAPSHOTS) + 1 if _SNAPSHOTS in parts else len(parts)
    return parts[at] if at < len(parts) and _COMMIT.fullmatch(parts[at]) else ""


def in_package(model: str, field: str, value: str, patterns: Sequence[str]) -> Path:
    """Find the file of ``package:NAME``: the match of the first matching pattern nearest to the package's root.

    The package is located but not imported, so its code does not run.

    Raises:
        ConfigError: the package is missing, or has no such file, or the choice is ambiguous.
    """
    package = value.removeprefix(PACKAGE)
    roots = _package_roots(package)
    if not roots:
        raise misconfigured(model, field, f"the Python package {package!r} is not installed")
    for pattern in patterns:
        found = sorted(path for root in roots for path in root.rglob(pattern))
        depth = min((len(path.parts) for path in found), default=0)
        nearest = [path for path in found if len(path.parts) == depth]
        if len(nearest) == 1:
            return nearest[0]
        if nearest:
            names = ", ".join(str(path.relative_to(path.parents[1])) for path in nearest)
            reason = f"the package {package!r} holds more than one model ({names}); give a path"
            raise misconfigured(model, field, reason)
    raise misconfigured(model, field, f"the package {package!r} holds no file named {' or '.join(patterns)}")


def _package_roots(package: str) -> list[Path]:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # a missing parent package, or an invalid name
        return []
    return [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
