"""Checks of the settings and the directories that they name."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from legit_embedding.cli.shared.terminal import counted
from legit_embedding.config import config_file
from legit_embedding.migration.checks.finding import fail, ok, warn
from legit_embedding.migration.handoffs import left_over

if TYPE_CHECKING:
    from pathlib import Path

    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

OLD_S = 3600.0
_LEAST_FREE = 0.1
"""Share of the file system that should be free, as far as that is no more than `_ENOUGH_FREE`."""
_ENOUGH_FREE = 2**30
"""Bytes that are enough whatever the size: 1,700 hand-offs of one 224 px image in float32."""


def settings(deployment: Deployment) -> Finding:
    """Report the source of the settings. They are already validated: nothing starts with invalid settings."""
    file = config_file()
    models = ", ".join(deployment.settings.models)
    if file is None:
        todo = "write a legit.toml, or set LEGIT_CONFIG, unless the LEGIT_ variables say it all"
        return warn(f"there is no settings file: models {models}", todo)
    return ok(f"{file}: models {models}")


def image_roots(deployment: Deployment) -> Finding:
    """Check the image roots, the only directories that `image_path` may point into."""
    roots = deployment.settings.image_roots
    unreadable = [str(root) for root in roots if not os.access(root, os.R_OK | os.X_OK)]
    if unreadable:
        return fail(f"cannot be read: {', '.join(unreadable)}", "mount them, or mend image_roots")
    if not roots:
        return ok("none: tasks with image_path are refused")
    return ok(", ".join(map(str, roots)))


def handoffs(deployment: Deployment) -> Finding:
    """Check the hand-offs of old prep workers: they must be readable and should not be old."""
    directory = deployment.settings.handoff_dir
    if not directory.exists():
        return ok(f"{directory} does not exist: no hand-offs on this host")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        todo = "run the new worker as the old workers' user, or change the directory's mode"
        return fail(f"{directory} cannot be read and written", todo)
    files = left_over(directory)
    old = [file for file in files if file.age_s > OLD_S]
    found = f"{counted(len(files), 'hand-off', 'hand-offs')} in {directory}"
    if old:
        todo = "no queued task older than that? legit-embedding handoff sweep --older-than 1h"
        return warn(f"{len(old):,} of {found} older than an hour", todo)
    return _space(directory, f"{found}, none older than an hour")


def _space(directory: Path, what: str) -> Finding:
    usage = shutil.disk_usage(directory)
    if usage.free < min(_LEAST_FREE * usage.total, _ENOUGH_FREE):
        return warn(
            f"{directory} is nearly full: {usage.free // 2**20:,} MB free", "sweep old hand-offs, or enlarge it"
        )
    return ok(what)
