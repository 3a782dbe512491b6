"""A development worker: the literal command with the demo's models, beside an embedded Valkey where none is given."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from samples import free_photo_folder
from services import COMMAND, DemoError, environment, redis_address, run_in_foreground, write_settings


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="legit-worker-") as name:
        folder = Path(name)
        given = os.environ.get("LEGIT_CONFIG")
        settings = Path(given).resolve() if given else write_settings(folder, free_photo_folder())
        try:
            with redis_address(folder) as url:
                print(f"Redis: {url}\n$ {' '.join((*COMMAND, *sys.argv[1:]))}", flush=True)
                return run_in_foreground((*COMMAND, *sys.argv[1:]), environment(url, settings))
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
