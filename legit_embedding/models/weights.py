"""Where a model's weights come from, beyond what its own library knows: a seed, or an installed package."""

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
    """The seed of ``random:SEED``, or None where the model is to have real weights.

    Raises:
        ConfigError: the seed is not a whole number from 0 up.
    """
    if not config.pretrained.startswith(RANDOM):
        return None
    digits = config.pretrained.removeprefix(RANDOM)
    if not digits.isdecimal():
        reason = f"expected {RANDOM}SEED with a whole number, got {config.pretrained!r}"
        raise misconfigured(model, "pretrained", reason)
    return int(digits)


def commit_of(path: str | Path) -> str:
    """The commit of a file or folder in the hub's cache; empty for any other."""
    parts = Path(path).parts
    at = parts.index(_SNAPSHOTS) + 1 if _SNAPSHOTS in parts else len(parts)
    return parts[at] if at < len(parts) and _COMMIT.fullmatch(parts[at]) else ""


def in_package(model: str, field: str, value: str, patterns: Sequence[str]) -> Path:
    """The file of ``package:NAME``: the one nearest to the package's root that fits the first pattern that fits any.

    The package is located, not imported: its code does not run.

    Raises:
        ConfigError: no such package, no such file in it, or more than one to choose from.
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
    except (ImportError, ValueError):  # a parent that is not there, or not a name at all
        return []
    return [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
