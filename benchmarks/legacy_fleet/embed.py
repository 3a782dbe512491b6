"""One model's embed worker.

LEGACY_MODEL=minilm celery -A benchmarks.legacy_fleet.embed worker --pool=solo -Q legacy_embed.minilm -n embed-minilm@%h
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.legacy_fleet import models, results
from benchmarks.legacy_fleet.app import connect, make_app, settings
from benchmarks.legacy_fleet.buffer import BATCH, BufferedTask, Taken
from benchmarks.legacy_fleet.telemetry import Stats

MODEL_VARIABLE = "LEGACY_MODEL"

app = make_app()
app.conf.worker_prefetch_multiplier = 2 * BATCH
name = os.environ[MODEL_VARIABLE]
kind = settings.models[name].kind
client = connect()
stats = Stats(client, "embed")
model = models.make(settings.models[name])
model.load()


@app.task(base=BufferedTask, name=getattr(settings.task_names, f"embed_{kind}"))
def embed(batch: list[Taken]) -> None:
    """Compute one batch; write and acknowledge its results one after the other."""
    batch = [taken for taken in batch if is_there(taken)]
    if not batch:
        return
    vectors = model.embed([np.load(taken.argument["path"]) for taken in batch])
    for taken, vector in zip(batch, vectors, strict=True):
        results.write(client, taken.argument, stats.identity, results.good(kind, name, vector))
        Path(taken.argument["path"]).unlink(missing_ok=True)
        taken.acknowledge()
    stats.count("embedded", len(batch))


def is_there(taken: Taken) -> bool:
    """Answer a hand-off that is gone."""
    if Path(taken.argument["path"]).exists():
        return True
    results.write(client, taken.argument, stats.identity, results.bad("handoff_refused", "the file is gone"))
    taken.acknowledge()
    stats.count("failed")
    return False
