"""Front of the model queues: the part of a processor that takes deliveries and takes them back."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from legit_embedding.engine.outcomes import CANCELLED
from legit_embedding.errors import ErrorCode, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from legit_embedding.engine.delivery import Delivery
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.outcomes import Outcomes

logger = logging.getLogger(__name__)

WAITING_BYTES = 256 * 1024 * 1024
"""Capacity of each model's queue, in bytes."""


class Front(ABC):
    """Queues of several models. The methods may be called from any thread.

    Args:
        outcomes: settles items.
        on_room: called when a model that was full has room again; must be quick.
    """

    _queues: Mapping[str, ModelQueue]

    def __init__(self, outcomes: Outcomes, on_room: Callable[[], None] | None) -> None:
        self._outcomes = outcomes
        self._on_room = on_room

    def submit(self, delivery: Delivery) -> None:
        """Submit a prepared item. Never blocks; callers check `has_room` first."""
        self._outcomes.expect()
        queue = self._queues.get(delivery.model)
        if queue is None:
            self._outcomes.fail([delivery], TaskError("unknown_model", f"there is no model {delivery.model!r} here"))
        elif queue.accumulator.put(delivery):
            self._notice(delivery.model)
        else:
            self._outcomes.give_back([delivery])

    def cancel(self, delivery: Delivery, code: ErrorCode) -> None:
        """Fail an item with this code: at once if it is waiting, otherwise with its batch or after it is submitted."""
        delivery.cancelled = code
        # An item that has not been submitted yet may have no model; it fails when it is packed.
        queue = self._queues.get(getattr(delivery, "model", ""))
        if queue is not None and queue.accumulator.remove(delivery):
            self._outcomes.fail([delivery], TaskError(code, CANCELLED))

    def has_room(self, model: str) -> bool:
        """Return True if a model accepts more items; `on_room` is called when a full model does so again."""
        queue = self._queues.get(model)
        return queue is not None and not queue.accumulator.full

    def deliver_within(self, together: Callable[[], AbstractContextManager[None]]) -> None:
        """Deliver the vectors of each batch within a context that `together` makes."""
        self._outcomes.together = together

    @property
    def open_items(self) -> int:
        """The number of submitted items that are not settled."""
        return self._outcomes.open

    def set_linger(self, model: str, linger_ms: float) -> None:
        """Change the time that a model's partial batch waits for more items."""
        self._queues[model].linger_s = linger_ms / 1000

    def set_max_batch(self, model: str, max_batch: int | None) -> None:
        """Change a model's limit of items per batch; None for its default."""
        self._queues[model].max_batch = max_batch

    def drain(self, timeout: float) -> bool:
        """Wait until every submitted item is settled. Returns False on timeout."""
        return self._outcomes.wait_for_all(timeout)

    @abstractmethod
    def _notice(self, model: str) -> None:
        """Wake what serves a model, after a submission."""

    def _give_back_waiting(self) -> None:
        for queue in self._queues.values():
            self._outcomes.give_back(queue.accumulator.close())

    def _room(self) -> None:
        if self._on_room is None:
            return
        try:
            self._on_room()
        except Exception:
            logger.exception("The callback for room raised")
