"""Takes pictures of the operator's commands in terminals of 80 and 120 columns while two real workers are under load.

The commands run in pseudo-terminals of these widths, so the pictures show what they do with the room that they have.
"""

from __future__ import annotations

import itertools
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import redis
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from load import fill, tasks
from samples import free_photo_folder
from services import ROOT, Worker, environment, redis_address, write_settings

WIDTHS = (80, 120)
ROWS = 40
ALONE, UNDER_LOAD = (("plan",),), (("top", "--once"), ("streams", "--interval", "5"))
WARMED_UP_S = 30
"""So that rates are those of steady work."""
_FORMAT = (
    re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    .replace("Fira Code", "DejaVu Sans Mono")
    .replace("font-size: {char_height}px", "font-size: 21px")
)
"""Without the fonts that rich would have a browser fetch; at 21 pixels the lines of a table meet in most others."""


def main() -> int:
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "terminal"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.pop("LEGIT_REDIS_URL", None)  # the pictures need a server of their own
    photos = free_photo_folder()

    def take(*commands: tuple[str, ...]) -> None:
        for command, width in itertools.product(commands, WIDTHS):
            name = f"{command[0]}-{width}"
            shown = _screen(("legit-embedding", *command), width, environment(url, settings))
            (folder / f"{name}.svg").write_text(_drawn(shown, width, name), encoding="utf-8")

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="legit-terminal-")))
        url = stack.enter_context(redis_address(scratch))
        settings = write_settings(scratch, photos)
        take(*ALONE)
        for name in ("worker-1", "worker-2"):
            os.environ["LEGIT_WORKER_ID"] = name
            (scratch / name).mkdir()
            worker = Worker(scratch / name, url, settings)
            stack.callback(worker.abandon)
            worker.wait_ready(180)
        with redis.Redis.from_url(url) as client:
            fill(client, "embedding_tasks", tasks(photos))
        time.sleep(WARMED_UP_S)
        take(*UNDER_LOAD)
    return 0


def _screen(command: tuple[str, ...], width: int, variables: dict[str, str]) -> str:
    """Run a command in a terminal of this width, and return what it wrote."""
    variables = {name: value for name, value in variables.items() if name not in {"COLUMNS", "LINES"}}
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (ROWS, width))
    process = subprocess.Popen(
        command,
        env=variables | {"TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=subprocess.DEVNULL,  # a bar, wiped in the end
    )
    os.close(its)
    with open(ours, "rb", buffering=0) as screen:
        written = b"".join(iter(lambda: _read(screen.fileno()), b""))
    if process.wait():
        message = f"{' '.join(command)} ended with {process.returncode}"
        raise SystemExit(message)
    return f"$ {' '.join(command)}\n" + written.decode().replace("\r", "")


def _read(terminal: int) -> bytes:
    """Read from a terminal until its other end is closed."""
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so, instead of an end of file
        return b""


def _drawn(shown: str, width: int, name: str) -> str:
    """Draw a screen as an SVG."""
    console = Console(record=True, width=width, file=StringIO())
    console.print(Text.from_ansi(shown), end="")
    return console.export_svg(title=f"{width} columns", code_format=_FORMAT, unique_id=name)


if __name__ == "__main__":
    sys.exit(main())
