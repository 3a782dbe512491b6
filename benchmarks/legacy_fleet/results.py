"""Results, one XADD after the other."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from benchmarks.legacy_fleet.app import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import redis
    from numpy.typing import NDArray


def write(client: redis.Redis, task: Mapping[str, Any], worker: str, fields: dict[str, str]) -> None:
    """Write one result where the task, or its application's route, wants it, and wait for the reply."""
    streams = settings.streams
    stream = task.get("reply_to") or streams.routes.get(task.get("app", ""), streams.results)
    entry = {"task_id": task["task_id"], **fields, "worker": worker}
    if task.get("app") is not None:
        entry["app"] = task["app"]
    if task.get("metadata") is not None:
        entry["metadata"] = json.dumps(task["metadata"])
    client.xadd(stream, entry)


def good(kind: str, model: str, vector: NDArray[np.float32]) -> dict[str, str]:
    """The fields of an embedding."""
    embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    fields = {"status": "ok", "kind": kind, "model": model, "dim": str(len(vector))}
    return fields | {"encoding": "base64_fp32", "embedding": embedding}


def bad(code: str, detail: str) -> dict[str, str]:
    """The fields of an error."""
    return {"status": "error", "error": code, "detail": detail}
