"""celery-batches on threads: a Celery task that gets a list, and writes the list's answers to Redis.

Its command is `celery -A celery_batches_worker worker --pool=threads -c 1`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import redis
from celery import Celery
from celery_batches import Batches
from encoder import load

if TYPE_CHECKING:
    from celery_batches import SimpleRequest

URL = os.environ["PEER_REDIS_URL"]
app = Celery("peer", broker=URL)
app.conf.update(
    task_default_queue="embedding",
    worker_prefetch_multiplier=256,  # its documentation: at least flush_every over the number of threads
    broker_transport_options={"visibility_timeout": int(os.environ["PEER_VISIBILITY_S"])},
)
model, results = load(), redis.Redis.from_url(URL)


@app.task(base=Batches, name="embed", flush_every=128, flush_interval=0.05, acks_late=True)
def embed(requests: list[SimpleRequest]) -> None:
    """Answer a batch; Celery acknowledges its messages afterwards."""
    tasks = [request.args[0] for request in requests]
    with results.pipeline(transaction=False) as pipe:
        for task, vector in zip(tasks, model(tasks), strict=True):
            pipe.xadd("embedding_results", {"task_id": task["task_id"], "status": "ok", "embedding": vector})
        pipe.execute()
