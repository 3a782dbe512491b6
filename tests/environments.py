"""Python environments of their own, for programs that the project does not depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".peers"


def environment(name: str, *pins: str) -> Path:
    """The folder of an environment's programs; made once, and again when its pins change."""
    folder, wanted = CACHE / name, " ".join([*pins, sys.version])
    programs, stamp = folder / "bin", folder / "made-for"
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(programs / "python"), "-m", "pip", "install", "-q", "--no-compile", *pins], check=True)
        stamp.write_text(wanted)
    return programs
