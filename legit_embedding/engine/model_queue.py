"""Per-model state in the engine: queue, limits, retries and counters."""

from __future__ import annotations

import heapq
import logging
import time
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from legit_embedding.engine.batching.accumulator import Accumulator
from legit_embedding.engine.batching.batch import Batch
from legit_embedding.engine.batching.packer import MAX_ITEMS, Limits, shelf_for, unwanted
from legit_embedding.engine.batching.priority import PriorityShelf
from legit_embedding.engine.sizing.cost_model import Ceiling
from legit_embedding.engine.stats import Counters, ModelStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.device.base import Forward
    from legit_embedding.engine.outcomes import Outcomes
    from legit_embedding.engine.sizing.profile import Plan
    from legit_embedding.models.backend import Backend

logger = logging.getLogger(__name__)

_SMOOTHING = 0.2
_MIN_PACE = 1e-3
_FIRST_GUESS = {"image": 1, "text": 32}
"""Assumed cost per item until the first batch has been measured."""


class ModelQueue:
    """Engine state of one model. Any thread may use the accumulator; the rest belongs to the loop's thread."""

    plan: Plan
    """Set when the engine has started, like `forward`."""
    forward: Forward

    def __init__(
        self,
        name: str,
        backend: Backend,
        outcomes: Outcomes,
        max_bytes: int,
        max_items: int,
        on_room: Callable[[], None],
    ) -> None:
        self.name = name
        self.kind = backend.kind
        self.backend = backend
        shelf = PriorityShelf(partial(shelf_for, backend.kind), backend.config.interactive_share)
        self.accumulator = Accumulator(shelf, max_bytes, max_items, on_room)
        self.counters = Counters()
        self.linger_s = backend.config.linger_ms / 1000
        self.max_batch = backend.config.max_batch
        self._outcomes = outcomes
        self._retries: list[tuple[float, int, Batch]] = []
        self._order = count()
        self._pace = 1.0
        self.ceiling = Ceiling(1)
        self.target = 1

    def open(self, plan: Plan) -> None:
        """Set the plan of a loaded and measured model, or of a remote one."""
        self.plan = plan
        self.ceiling = Ceiling(plan.largest)
        self.target = plan.target()

    @property
    def limits(self) -> Limits:
        """Current size limits of a batch."""
        items = min(self.max_batch or MAX_ITEMS, MAX_ITEMS)
        cost = min(self.target, self.ceiling.cost)
        return Limits(cost, items, self.plan.free_padding(), self.plan.fixed_cost())

    def batch_items(self) -> int:
        """Return the approximate number of items in a full batch."""
        limits = self.limits
        counters = self.counters
        each = counters.useful / counters.items if counters.items else _FIRST_GUESS[self.kind]
        return max(1, min(limits.items, int(limits.cost / each)))

    def due_in(self, now: float) -> float | None:
        """Return the seconds until a batch may be launched: 0 for immediately, None while nothing is waiting."""
        waits = [self._retries[0][0] - now] if self._retries else []
        if len(self.accumulator):
            waits.append(self._linger_left(now))
        return max(0.0, min(waits)) if waits else None

    def has_full_batch(self) -> bool:
        """Return True if waiting would not enlarge the next batch."""
        limits = self.limits
        return len(self.accumulator) >= limits.items or self.accumulator.cost >= limits.cost

    def next_batch(self, now: float, *, attended: bool = False) -> Batch | None:
        """Take the next batch, retries first; None if nothing is left once cancelled and expired items are answered.

        Args:
            now: the current time, by `time.monotonic`.
            attended: keep it as short as the model's speed allows, because interactive items may come meanwhile.
        """
        if self._retries and self._retries[0][0] <= now:
            return heapq.heappop(self._retries)[2]
        if not len(self.accumulator):
            return None
        limits = self.limits
        if attended:
            limits = replace(limits, cost=min(limits.cost, self.plan.target(self._pace, attended=True)))
        pack = self.accumulator.pack(limits, time.time())
        self._outcomes.refuse(pack.refused)
        return Batch(self.name, self.kind, pack.deliveries) if pack.deliveries else None

    def retry(self, batch: Batch) -> None:
        """Schedule a batch, or part of one, for another attempt at its `not_before`."""
        heapq.heappush(self._retries, (batch.not_before, next(self._order), batch))

    def refuse_unwanted(self) -> None:
        """Answer what was cancelled or has expired, in the accumulator and in batches that wait for another attempt."""
        now = time.time()
        self._outcomes.refuse(self.accumulator.take_unwanted(now))
        for _, _, batch in self._retries:
            refused = [delivery for delivery in batch.deliveries if unwanted(delivery, now)]
            if refused:
                # Before they are answered: a shutdown gives back what the batch still holds.
                batch.deliveries = [delivery for delivery in batch.deliveries if delivery not in refused]
                self._outcomes.refuse(refused)

    def expected_s(self, cost: int) -> float:
        """Return the expected compute time of a batch of this cost, in seconds."""
        return self._pace * self.plan.seconds.at(cost)

    def ran(self, batch: Batch, seconds: float) -> None:
        """Record a landed batch."""
        started_at, limits = time.monotonic() - seconds, self.limits
        fill = max(batch.cost / limits.cost, len(batch.deliveries) / limits.items)
        waits = [started_at - delivery.queued_at for delivery in batch.deliveries]
        self.counters.ran(waits, batch.useful, batch.cost, seconds, min(1.0, fill))
        logger.debug(
            "A batch of %s: %d items, cost %d of %d, waited up to %.1f ms, computed %.1f ms",
            *(self.name, len(waits), batch.cost, limits.cost, 1000 * max(waits), 1000 * seconds),
        )
        if batch.sound:
            self.counters.failed_in_row, self.counters.last_ok_at = 0, time.monotonic()
        else:
            self.counters.failed_in_row += 1
        self.ceiling.went_well()
        self._keep_pace(self.plan.seconds.at(batch.cost), seconds)

    def stats(self, all_device_s: float, weight: float) -> ModelStats:
        """Return a snapshot of the counters."""
        counters, opened = self.counters, hasattr(self, "plan")
        since = self.accumulator.oldest_since()
        return ModelStats(
            waiting=len(self.accumulator),
            waiting_bytes=self.accumulator.bytes,
            batches=counters.batches,
            items=counters.items,
            device_s=counters.device_s,
            share=counters.device_s / all_device_s if all_device_s else 0.0,
            padding_waste=counters.padding_waste,
            ooms=counters.ooms,
            failures=self._outcomes.failures(self.name),
            largest_batch=counters.largest,
            ceiling=self.ceiling.cost,
            target=self.target,
            weight=weight,
            linger_ms=self.linger_s * 1000,
            max_batch=self.max_batch,
            failed_in_row=counters.failed_in_row,
            loaded=opened,
            last_ok_at=counters.last_ok_at,
            planned_bytes=int(self.plan.weights_bytes + self.plan.bytes.at(self.ceiling.cost)) if opened else 0,
            batches_seen=counters.histograms(),
            useful_cost=counters.useful,
            padded_cost=counters.padded,
            oldest_s=time.monotonic() - since if since is not None else None,
        )

    def _keep_pace(self, planned: float, seconds: float) -> None:
        """Update the ratio of measured to planned time from a batch; the first batches weigh most."""
        if planned > 0:
            smoothing = max(_SMOOTHING, 1 / self.counters.batches)
            self._pace += smoothing * (seconds / planned - self._pace)
            self.target = self.plan.target(max(self._pace, _MIN_PACE))

    def _linger_left(self, now: float) -> float:
        if not self.linger_s or self.has_full_batch():
            return 0.0
        since = self.accumulator.oldest_since()
        return since + self.linger_s - now if since is not None else 0.0
