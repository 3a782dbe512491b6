"""The content cache: a processor in front of another that answers from Redis what was embedded before."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from legit_embedding.encoding import Encoded, decode_embedding
from legit_embedding.errors import in_one_line
from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.slots import beside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.engine.stats import EngineStats
    from legit_embedding.pipeline.job import Job
    from legit_embedding.pipeline.protocols import Processor
    from legit_embedding.redis_io.address import RedisAddress

logger = logging.getLogger(__name__)

PREFIX = "embedding:cache:"
"""Prefix of the keys: a hash each, with the fields of a result that hold its vector, written by the commit."""
TIMEOUT_S = 0.5
PAUSE_S = 1.0
"""The time without lookups after one has failed, in seconds: items are computed meanwhile."""
AT_ONCE = 128
_FIELDS = ("dim", "encoding", "embedding", "scale")
_OF_VECTORS = {"backend", "name", "pretrained", "pooling", "normalize", "options"}
"""The settings of a model that change the vector of a prepared item."""


class Cached:
    """Looks jobs up whose model has `cache_s`, on a thread of its own; passes on all others, and what is not found.

    Items that came by HTTP are not looked up: their answers are not written to Redis either.

    Args:
        inner: embeds what is not found.
        address: the server that keeps the vectors.
        beside_key: the task stream: the vectors are in its cluster slot, if it has a hash tag.
        on_fatal: called with the cause if the thread ends by itself.
    """

    def __init__(
        self,
        inner: Processor,
        address: RedisAddress,
        beside_key: str,
        on_fatal: Callable[[BaseException], None] | None,
    ) -> None:
        self._inner = inner
        self._on_fatal = on_fatal
        self._client = make_client(address, TIMEOUT_S)
        self._prefix = beside(PREFIX, beside_key)
        self._waiting: SimpleQueue[Job | None] = SimpleQueue()
        self._resume_at = 0.0
        self._looked_up: Counter[tuple[str, bool]] = Counter()
        self._thread = Thread(target=self._run, name="content-cache", daemon=True)
        self.has_room = inner.has_room
        self.cancel = inner.cancel
        self.full_batch = inner.full_batch
        self.progress = inner.progress
        self.front = inner.front

    def start(self) -> None:
        """Start the inner processor, then the lookups."""
        self._inner.start()
        self._thread.start()

    def submit(self, delivery: Job) -> None:
        """Take a prepared job."""
        if delivery.tower.config.cache_s and delivery.content and delivery.origin.kind != "http":
            self._waiting.put(delivery)
        else:
            self._inner.submit(delivery)

    def stats(self) -> EngineStats | None:
        """The inner processor's counters, with the lookups."""
        stats = self._inner.stats()
        if stats is None:
            return None
        models = {
            name: replace(model, cache_hits=self._looked_up[name, True], cache_misses=self._looked_up[name, False])
            for name, model in stats.models.items()
        }
        return replace(stats, models=models)

    def close(self, *, give_back: bool, timeout: float) -> None:
        """End the lookups, give back what still waits for one, and stop the inner processor."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(2 * TIMEOUT_S)
        while (job := _next(self._waiting)) is not None:
            job.given_back()
        self._inner.close(give_back=give_back, timeout=timeout)
        self._client.close()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            logger.critical("The thread of the content cache has ended", exc_info=True)
            if self._on_fatal is not None:
                self._on_fatal(error)

    def _serve(self) -> None:
        while (job := self._waiting.get()) is not None:
            jobs = [job]
            while len(jobs) < AT_ONCE and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                jobs.append(following)
            for each, found in zip(jobs, self._look_up(jobs), strict=True):
                try:
                    self._settle(each, found)
                except Exception as error:  # noqa: BLE001 - whatever it is, it costs this item only
                    each.crashed("looking the item up in the content cache", error)

    def _look_up(self, jobs: Sequence[Job]) -> Sequence[Any]:
        try:
            for job in jobs:
                job.cache_key = _key(job, self._prefix)
            if time.monotonic() < self._resume_at:
                return [None] * len(jobs)
            with self._client.pipeline(transaction=False) as pipe:
                for job in jobs:
                    pipe.hmget(job.cache_key, *_FIELDS)
                return pipe.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - whatever Redis does, the items are computed
            logger.warning("The content cache cannot be read, items are computed: %s", in_one_line(error))
            self._resume_at = time.monotonic() + PAUSE_S
            return [None] * len(jobs)

    def _settle(self, job: Job, found: Any) -> None:  # noqa: ANN401 - a reply of Redis
        known = _read(job, found)
        self._looked_up[job.model, known is not None] += 1
        if known is None:
            self._inner.submit(job)
        else:
            job.remembered(*known)


def _key(job: Job, prefix: str = PREFIX) -> str:
    """The key of an item's vector: all that determines the fields that are kept."""
    tower = job.tower
    told = (*sorted(tower.identity().items()), tower.config.model_dump_json(include=_OF_VECTORS))
    digest = blake2b(repr((told, job.dimensions, job.encoding)).encode(), digest_size=16)
    digest.update(job.content)
    return prefix + digest.hexdigest()


def _read(job: Job, found: Any) -> tuple[int, Encoded] | None:  # noqa: ANN401 - a reply of Redis
    """The vector that was found, as it was encoded; None if there is none, or it cannot be read."""
    try:
        dim, encoding, embedding, scale = (value.decode() if value else "" for value in found)
        if encoding != job.encoding:
            return None
        decode_embedding(embedding, encoding, dim=int(dim), scale=scale)
    except (TypeError, ValueError, AttributeError):
        return None
    return int(dim), Encoded(embedding, scale)


def _next(waiting: SimpleQueue[Job | None]) -> Job | None:
    try:
        return waiting.get_nowait() or _next(waiting)
    except Empty:
        return None
