"""The figures that every display of a worker shares: rates, and those of one model."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from legit_embedding.pipeline.snapshot import WINDOW_S

if TYPE_CHECKING:
    from legit_embedding.engine.stats import ModelStats
    from legit_embedding.pipeline.snapshot import Snapshot


class Rates:
    """Embedded items per second over the last `WINDOW_S` seconds of the snapshots that it is given."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()

    def update(self, now: Snapshot) -> dict[str, float]:
        """Return the rates by model, with the total under the empty name; a total of 0 alone at the first snapshot."""
        self._snapshots.append(now)
        while now.at - self._snapshots[0].at > WINDOW_S and len(self._snapshots) > 2:  # noqa: PLR2004 - a rate needs two
            self._snapshots.popleft()
        before = self._snapshots[0]
        seconds = now.at - before.at
        if seconds <= 0:
            return {"": 0.0}
        by_model = {name: (model.items - before.models[name].items) / seconds for name, model in now.models.items()}
        return by_model | {"": (now.embedded - before.embedded) / seconds}


def of_model(model: ModelStats, items_per_s: float) -> dict[str, Any]:
    """Return a model's figures, as they stand in ``by_model`` (CONTRACT section 6)."""
    remote = model.remote
    return {
        "waiting": model.waiting,
        "items": model.items,
        "items_per_s": round(items_per_s, 2),
        "batch_size_avg": round(model.batch_size_avg, 2),
        "batch_fill": round(model.batches_seen.fill.mean, 3),
        "padding_waste": round(model.padding_waste, 3),
        "device_share": round(model.share, 3),
        "cache_hits": model.cache_hits,
        "cache_misses": model.cache_misses,
        **({} if remote is None else {"requests": remote.requests, "breaker_open": remote.is_open}),
    }
