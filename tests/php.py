"""Whether PHP is here."""

from __future__ import annotations

import shutil
import subprocess


def has_phpredis() -> bool:
    if shutil.which("php") is None:
        return False
    modules = subprocess.run(["php", "-m"], capture_output=True, text=True, check=False).stdout
    return "redis" in modules.split()
