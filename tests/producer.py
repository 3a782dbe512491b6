"""A producer as a user runs it: a process of its own, on the profile `celeryconfig.cutover`, under constant load.

    python -m tests.producer TASKS_A_SECOND

It says "producer ready.", sends until SIGTERM, and says "sent N": the tasks load-0 to load-(N-1). One in four is an
image. The metadata say which of the few contents a task carries.
"""

from __future__ import annotations

import base64
import signal
import sys
import threading
import time
from itertools import count
from typing import Any

from celery import Celery

from legit_embedding.config import get_settings
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT
from tests.images import PHOTOS, encoded, photo
from tests.texts import texts

TEXTS = texts(24, 3, 40)


def contents() -> list[tuple[str, dict[str, Any]]]:
    """Task names, and the fields that say what to embed."""
    images = [base64.b64encode(encoded(photo(name).resize((320, 240)), "JPEG")).decode() for name in PHOTOS]
    made: list[tuple[str, dict[str, Any]]] = []
    for number, text in enumerate(TEXTS):
        if number % 3 == 0:
            made.append((PREPARE_IMAGE, {"image_b64": images[number // 3 % len(images)]}))
        made.append((PREPARE_TEXT, {"text": text}))
    return made


def main() -> None:
    """Send at a steady rate."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    app = Celery("shop", broker=get_settings().redis_url)
    app.config_from_object("celeryconfig.cutover")
    pool, interval = contents(), 1 / float(sys.argv[1])
    print("producer ready.")
    started = time.monotonic()
    for number in count():
        if stop.wait(max(0.0, started + number * interval - time.monotonic())):
            break
        content = number % len(pool)
        name, fields = pool[content]
        task = {"task_id": f"load-{number}", "app": "shop", "metadata": {"content": content}}
        app.send_task(name, (task | fields,), ignore_result=True)
    print(f"sent {number}")


if __name__ == "__main__":
    main()
