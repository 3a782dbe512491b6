"""An environment for each peer, in a cache folder that git ignores; made once, and again when its pins change.

torch is the same for all of them and by far the largest, so it has an environment of its own that the others see
after their own packages.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".peers"
REQUIREMENTS = Path(__file__).parent / "requirements"
TORCH = "torch"
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made if need be."""
    if name != TORCH:
        python_of(TORCH)
    folder, pins = CACHE / name, REQUIREMENTS / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "made-for"
    needs = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == needs:
        return python
    print(f"Making the environment of {name} in {folder} ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    if name != TORCH:
        _share_torch(folder)
    subprocess.run([str(python), *_PIP, "--requirement", str(pins)], check=True)
    stamp.write_text(needs)
    return python


def version_of(name: str, package: str) -> str:
    """The pinned release of a package."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.lower().startswith(f"{package}=="))


def _share_torch(folder: Path) -> None:
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    # Relative, so that the cache can be moved; last in the alphabet, so that nothing comes after it.
    (folder / site / "zz-torch.pth").write_text(f"../../../../{TORCH}/{site}\n")
