"""Settlement of items: all delivery callbacks are called from here."""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from numpy.typing import NDArray

    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.delivery import Delivery

logger = logging.getLogger(__name__)

EXPIRED = "deadline: the item reached the device after its deadline"
CANCELLED = "the item was cancelled before its vector was there"
NOT_FINITE = "the model's vector for this item holds a NaN or an infinity"


class Vectors:
    """A batch's vectors, checked for shape and for non-finite values.

    Raises:
        ValueError: they are not ``[n, dim]``.
    """

    def __init__(self, rows: NDArray[np.float32], n: int, dim: int) -> None:
        if rows.shape != (n, dim):
            message = f"the model gave vectors of shape {rows.shape}, not {(n, dim)}"
            raise ValueError(message)
        self.rows = rows
        self.finite: list[bool] = np.logical_and.reduce(np.isfinite(rows), axis=1).tolist()

    def spread(self, rows: Sequence[int]) -> Self:
        """Repeat vectors that several items share: `rows` has the row of each item."""
        if len(rows) > len(self.rows):
            self.rows, self.finite = self.rows[rows], [self.finite[row] for row in rows]
        return self


class Outcomes:
    """Settles items, counts open items and failures, and tolerates callbacks that raise."""

    def __init__(self) -> None:
        self.together: Callable[[], AbstractContextManager[None]] = nullcontext
        """Makes a context in which a batch's vectors are delivered, for a sink that takes many at a time."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # which takes the lock in Python: twice as slow
        self._open = 0
        self._failures: dict[str, int] = {}

    def expect(self) -> None:
        """Count one more open item."""
        with self._lock:
            self._open += 1

    def wait_for_all(self, timeout: float) -> bool:
        """Wait until no item is open. Returns False on timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout)

    @property
    def open(self) -> int:
        """Number of unsettled items."""
        return self._open

    def failures(self, model: str) -> int:
        """Return the number of failed items of a model."""
        return self._failures.get(model, 0)

    def embedded(self, batch: Batch, vectors: Vectors, started_at: float, compute_s: float) -> None:
        """Deliver each item's vector. The caller has claimed the batch. Never raises."""
        with self.together():
            self._deliver(batch, vectors, started_at, compute_s)
        self._settled(len(batch.deliveries))

    def _deliver(self, batch: Batch, vectors: Vectors, started_at: float, compute_s: float) -> None:
        for delivery, vector, good in zip(batch.deliveries, vectors.rows, vectors.finite, strict=True):
            if delivery.cancelled is not None:
                self._fail(delivery, TaskError(delivery.cancelled, CANCELLED))
            elif not good:
                self._fail(delivery, TaskError("non_finite", NOT_FINITE))
            else:
                try:
                    delivery.done(vector, started_at - delivery.queued_at, compute_s)
                except BaseException:
                    logger.exception("The callback of an embedded item of %s raised", delivery.model)

    def fail(self, deliveries: Iterable[Delivery], error: TaskError) -> None:
        """Fail these items with an error."""
        count = 0
        for count, delivery in enumerate(deliveries, start=1):  # noqa: B007 - how many there were
            self._fail(delivery, error)
        self._settled(count)

    def refuse(self, deliveries: Iterable[Delivery]) -> None:
        """Fail items that were found to be cancelled or expired."""
        for delivery in deliveries:
            code = delivery.cancelled
            self.fail([delivery], TaskError("expired", EXPIRED) if code is None else TaskError(code, CANCELLED))

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give items back to their sources unanswered."""
        count = 0
        for count, delivery in enumerate(deliveries, start=1):  # noqa: B007
            try:
                delivery.given_back()
            except BaseException:
                logger.exception("The callback of an item of %s that was given back raised", delivery.model)
        self._settled(count)

    def _fail(self, delivery: Delivery, error: TaskError) -> None:
        with self._changed:
            self._failures[delivery.model] = self._failures.get(delivery.model, 0) + 1
        try:
            delivery.failed(error)
        except BaseException:
            logger.exception("The callback of a failed item of %s raised", delivery.model)

    def _settled(self, count: int) -> None:
        with self._changed:
            self._open -= count
            if not self._open:
                self._changed.notify_all()
