"""Flower beside the demo's worker, with some of the demo's items already embedded, until Ctrl-C."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from exchange import Exchange, Item
from samples import find_photos, find_sentences, free_photo_folder
from services import TASKS, DemoError, Worker, environment, redis_address, run_in_foreground, write_settings

PORT = "5555"
FLOWER = ("celery", "-A", "legit_embedding", "flower", "--address=127.0.0.1", f"--port={PORT}")
PHOTOS, SENTENCES = 8, 100


def main() -> int:
    photos = free_photo_folder()
    with tempfile.TemporaryDirectory(prefix="legit-flower-") as name:
        folder = Path(name)
        try:
            with redis_address(folder) as url, Exchange(url) as exchange:
                if "LEGIT_REDIS_URL" in os.environ:
                    exchange.refuse_shared_use()
                settings = write_settings(folder, photos, TASKS)
                worker = Worker(folder, url, settings)
                try:
                    print("The worker starts and loads its models ...", flush=True)
                    worker.wait_ready(180)
                    for photo in find_photos(photos)[:PHOTOS]:
                        exchange.send(Item("image", str(photo)))
                    for sentence in find_sentences(SENTENCES):
                        exchange.send(Item("text", sentence))
                    print(f"Flower: http://127.0.0.1:{PORT}\n$ {' '.join(FLOWER)} {' '.join(sys.argv[1:])}", flush=True)
                    # It listens on this machine only, so its buttons need no login.
                    variables = environment(url, settings) | {"FLOWER_UNAUTHENTICATED_API": "true"}
                    return run_in_foreground((*FLOWER, *sys.argv[1:]), variables)
                finally:
                    worker.abandon()
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
