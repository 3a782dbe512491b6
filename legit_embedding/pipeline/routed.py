"""Two processors as one: the device's, and that of the remote models beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from legit_embedding.engine.stats import EngineStats, Progress

if TYPE_CHECKING:
    from legit_embedding.engine.front import Front
    from legit_embedding.errors import ErrorCode
    from legit_embedding.pipeline.job import Job
    from legit_embedding.pipeline.protocols import Processor
    from legit_embedding.remote.processor import RemoteProcessor


class Routed:
    """Passes each job to the processor of its model.

    Args:
        local: embeds, or hands over, for the models that are computed here; None if there are none.
        remote: embeds for all others.
    """

    def __init__(self, local: Processor | None, remote: RemoteProcessor) -> None:
        self.local = local
        self.remote = remote

    def start(self) -> None:
        """Start both. The remotes are asked while models are loaded."""
        self.remote.start()
        if self.local is not None:
            self.local.start()

    def submit(self, delivery: Job) -> None:
        """Take a prepared job."""
        self._of(delivery.model).submit(delivery)

    def has_room(self, model: str) -> bool:
        """True if more items of a model may be prepared."""
        return self._of(model).has_room(model)

    def cancel(self, delivery: Job, code: ErrorCode) -> None:
        """Fail a job with this code."""
        self._of(delivery.model).cancel(delivery, code)

    def full_batch(self, model: str) -> int:
        """The number of items in a model's full batch."""
        return self._of(model).full_batch(model)

    def stats(self) -> EngineStats:
        """Current counters of both."""
        local = self.local.stats() if self.local is not None else None
        local = local or EngineStats({}, busy=0.0, open_items=0, open_batches=0, on_device=0, turned_at=0.0)
        open_items = local.open_items + self.remote.open_items
        return replace(local, models={**local.models, **self.remote.stats()}, open_items=open_items)

    def progress(self) -> Progress | None:
        """The device's; a remote that makes no progress is no fault of this worker's."""
        return self.local.progress() if self.local is not None else None

    def front(self, model: str) -> Front | None:
        """Whatever holds this model's queue."""
        return self._of(model).front(model)

    def close(self, *, give_back: bool, timeout: float) -> None:
        """Stop both within `timeout` seconds."""
        if self.local is not None:
            self.local.close(give_back=give_back, timeout=timeout)
        self.remote.close(give_back=give_back, timeout=timeout)

    def _of(self, model: str) -> Processor | RemoteProcessor:
        return self.remote if self.local is None or self.remote.front(model) is not None else self.local
