"""Flower beside the demo's worker and a trickle of tasks, until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from exchange import Exchange, Item
from samples import find_photos, find_sentences, free_photo_folder
from services import TASKS, DemoError, Worker, environment, redis_address, run_in_foreground, write_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT = "5555"
FLOWER = ("celery", "-A", "legit_embedding", "flower", "--address=127.0.0.1", f"--port={PORT}")
SENTENCES = 300
PHOTOS_AT_ONCE, SENTENCES_AT_ONCE = 4, 12
EVERY_S = 1.0
LISTENING_S = 60.0


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
                    print(f"Flower: http://127.0.0.1:{PORT}\n$ {' '.join(FLOWER)} {' '.join(sys.argv[1:])}", flush=True)
                    # It listens on this machine only, so its buttons need no login.
                    variables = environment(url, settings) | {"FLOWER_UNAUTHENTICATED_API": "true"}
                    Thread(target=_trickle, args=(exchange, find_photos(photos)), daemon=True).start()
                    return run_in_foreground((*FLOWER, *sys.argv[1:]), variables)
                finally:
                    worker.abandon()
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1


def _trickle(exchange: Exchange, photos: Sequence[Path]) -> None:
    """Send a few photos and sentences at a time, once Flower listens: it shows no task that began before."""
    until = time.monotonic() + LISTENING_S
    while time.monotonic() < until and not _listens():
        time.sleep(EVERY_S)
    sentences, pictures = cycle(find_sentences(SENTENCES)), cycle(photos)
    while True:
        for photo in islice(pictures, PHOTOS_AT_ONCE):
            exchange.send(Item("image", str(photo)))
        for sentence in islice(sentences, SENTENCES_AT_ONCE):
            exchange.send(Item("text", sentence))
        time.sleep(EVERY_S)


def _listens() -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(PORT)), timeout=EVERY_S).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
