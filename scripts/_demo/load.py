"""Work for the pictures of the documents: photos and sentences."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import redis

from samples import find_photos, find_sentences
from services import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACKLOG = 9000
"""More than a worker holds, so that some of it waits in the task stream."""
SENTENCES = 300
SENTENCES_PER_PHOTO = 12
"""A mix in which two CPU cores spend about as much time on either."""


@contextmanager
def steady_load(url: str, photos: Path) -> Iterator[None]:
    """Keep a backlog of tasks in the demo's task stream as long as the block lasts."""
    done = Event()
    feeder = Thread(target=_feed, args=(url, tasks(photos), done))
    feeder.start()
    try:
        yield
    finally:
        done.set()
        feeder.join()


def fill(client: redis.Redis, stream: str, more: Iterator[dict[str, str]]) -> None:
    """Add as many tasks to a stream as are missing from the backlog."""
    for task in itertools.islice(more, max(0, BACKLOG - client.xlen(stream))):
        client.xadd(stream, {"payload": json.dumps(task)})


def tasks(photos: Path) -> Iterator[dict[str, str]]:
    """Tasks without end, of the photos in a folder and of sentences."""
    words = itertools.cycle(find_sentences(SENTENCES))
    for photo in itertools.cycle(find_photos(photos)):
        yield {"image_path": str(photo)}
        yield from ({"text": text} for text in itertools.islice(words, SENTENCES_PER_PHOTO))


def _feed(url: str, more: Iterator[dict[str, str]], done: Event) -> None:
    with redis.Redis.from_url(url) as client:
        while not done.wait(0.2):
            fill(client, TASKS, more)
