"""The prep threads, and the jobs that wait for them."""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from legit_embedding.prep.cpus import keep_to_one_core
from legit_embedding.prep.cuda_guard import cpu_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

JobT = TypeVar("JobT")
Lane = tuple[bool, str]
"""True if its jobs are interactive, and the model."""

BATCH = 16
JITTER = 0.25
LOOK_AGAIN_S = 0.25
"""The time for which a model without room is left alone when nobody says that it has room again."""

BULK_TURN = 5
"""While jobs of both sorts wait, each turn of this number is for bulk jobs; the others are for interactive ones."""

MOST_STAND_INS = 8
"""The most threads that may stand in for those that wait for another process."""


class _Serving(threading.local):
    stage: PrepStage[Any] | None = None


_serving = _Serving()


@contextmanager
def standing_aside() -> Iterator[None]:
    """Let another prep thread stand in for the calling one, which waits within the block and uses no core."""
    stage = _serving.stage
    if stage is None:
        yield
        return
    stage.stand_aside(1)
    try:
        yield
    finally:
        stage.stand_aside(-1)


class PrepStage(Generic[JobT]):
    """Threads that prepare jobs: first come, first served within a lane, and the lanes in turn.

    A model has a lane for interactive jobs and one for bulk jobs. Interactive lanes go first, but for `BULK_TURN`, and
    they don't wait for room, since their jobs are few and go first at packing too; nor do they wait to be gathered.

    A thread takes what waits in one lane, up to the batch and leaving the other threads their share: so texts that
    wait together are tokenised together. A model whose accumulator has no room is passed over until `wake`.

    Nothing is called with the stage's lock held, so `work`, `has_room` and `on_crash` may take locks under which others
    call `submit` or `wake`.

    Args:
        work: prepares jobs of one model and passes each on; it must not raise.
        has_room: whether a model's accumulator takes more; must be quick.
        threads: how many threads.
        on_crash: called with all the jobs that `work` was given, and the error, when it raised nevertheless.
        batch: how many jobs of a model a thread takes at most. Where jobs do not gain from being prepared together, and
            where one may be slow, as a download is, this is best 1.
        gather_s: how long a thread lets more jobs of a model come when they come in quick succession, and then takes
            them all. Every stage behind this one handles several at a time then, which is most of what a task costs.
        is_interactive: whether somebody waits for a job.
    """

    def __init__(
        self,
        work: Callable[[str, list[JobT]], None],
        has_room: Callable[[str], bool],
        threads: int,
        on_crash: Callable[[list[JobT], BaseException], None],
        batch: Callable[[str], int] = lambda _model: BATCH,
        gather_s: float = 0.0,
        is_interactive: Callable[[JobT], bool] = lambda _job: False,
    ) -> None:
        self._work = work
        self._has_room = has_room
        self._wanted = threads
        self._on_crash = on_crash
        self._batch = batch
        self._gather_s = gather_s
        self._is_interactive = is_interactive
        self._turns = itertools.count(1)
        self._changed = threading.Condition()
        self._running = False
        self._numbers = itertools.count(1)
        self._threads: set[threading.Thread] = set()
        self._leaving: set[threading.Thread] = set()
        self._idle = 0
        self._aside = 0
        self._queues: dict[Lane, deque[JobT]] = {}  # in the order of the lanes' turns; none is empty
        self._full: set[str] = set()
        self._gathering: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._wakes = 0
        self._later: list[tuple[float, int, str, JobT]] = []

    def start(self) -> None:
        """Start the threads; what was submitted before waits for this."""
        with self._changed:
            self._running = True
            self._spawn()

    def submit(self, model: str, *jobs: JobT) -> None:
        """Queue jobs behind their model's others."""
        with self._changed:
            for job in jobs:
                self._put(model, job)
            # One thread is enough: it wakes another for what it leaves.
            if self._idle and (model not in self._gathering or any(map(self._is_interactive, jobs))):
                self._changed.notify()

    def submit_later(self, model: str, job: JobT, delay_s: float) -> None:
        """Queue a job when the delay is over, and up to a quarter later: what failed together comes back spread out."""
        due = time.monotonic() + delay_s * (1 + random.uniform(0, JITTER))  # noqa: S311 - not for secrets
        with self._changed:
            heapq.heappush(self._later, (due, next(self._numbers), model, job))
            self._changed.notify()

    def wake(self) -> None:
        """Say that some model may have room again."""
        with self._changed:
            self._wakes += 1
            if self._full:
                self._full.clear()
                self._changed.notify_all()

    def resize(self, threads: int) -> None:
        """Change the number of threads; those too many leave when they have finished what they are at."""
        with self._changed:
            self._wanted = threads
            self._spawn()
            self._changed.notify_all()

    def waiting(self, model: str | None = None) -> int:
        """The jobs that no thread has taken yet, those of a later attempt included."""
        with self._changed:
            queued = sum(
                len(queue)
                for name, queue in ((lane[1], queue) for lane, queue in self._queues.items())
                if model in {None, name}
            )
            return queued + sum(model in {None, entry[2]} for entry in self._later)

    def is_whole(self) -> bool:
        """True if there are as many threads as there should be."""
        with self._changed:
            return self._missing() <= 0

    def stand_aside(self, threads: int) -> None:
        """Count threads that wait within their work, or that have waited: others stand in for them meanwhile."""
        with self._changed:
            self._aside += threads
            self._spawn()

    def take_back(self) -> list[JobT]:
        """Remove and return every job that no thread has taken."""
        with self._changed:
            jobs = [job for queue in self._queues.values() for job in queue]
            jobs += [entry[3] for entry in sorted(self._later)]
            self._queues.clear()
            self._later.clear()
            return jobs

    def close(self, timeout: float) -> bool:
        """Let the threads finish what they are at; False when some had not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._running = False
            self._changed.notify_all()
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _put(self, model: str, job: JobT) -> None:
        self._queues.setdefault((self._is_interactive(job), model), deque()).append(job)

    def _spawn(self) -> None:
        while self._running and self._missing() > 0:
            taken = {thread.name for thread in self._threads}
            name = next(name for name in map("prep-{}".format, itertools.count(1)) if name not in taken)
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.add(thread)
            thread.start()

    def _serve(self) -> None:
        try:
            _serving.stage = self
            keep_to_one_core()
            with cpu_only():
                while (lane := self._next_lane()) is not None:
                    self._serve_lane(lane)
        except BaseException:
            logger.critical("A prep thread ended", exc_info=True)
            raise
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())
                self._leaving.discard(threading.current_thread())

    def _next_lane(self) -> Lane | None:
        """Wait until a lane has jobs, and room if they are bulk; None when this thread is to leave."""
        with self._changed:
            while self._running and self._missing() >= 0:
                self._bring_due()
                interactive = next((lane for lane in self._queues if lane[0]), None)
                bulk = next((lane for lane in self._queues if not lane[0] and self._is_free(lane[1])), None)
                if interactive and bulk:
                    return interactive if next(self._turns) % BULK_TURN else bulk
                if interactive or bulk:
                    return interactive or bulk
                self._wait()
            self._leaving.add(threading.current_thread())  # so that no other thread leaves in its place too
            return None

    def _is_free(self, model: str) -> bool:
        return model not in self._full and model not in self._gathering

    def _missing(self) -> int:
        """The number of missing threads; negative if there are too many."""
        return self._wanted + min(self._aside, MOST_STAND_INS) - (len(self._threads) - len(self._leaving))

    def _wait(self) -> None:
        self._idle += 1
        timeouts = [LOOK_AGAIN_S] if self._full else []
        if self._later:
            timeouts.append(max(0.0, self._later[0][0] - time.monotonic()))
        woken = self._changed.wait(min(timeouts, default=None))
        self._idle -= 1
        if not woken:
            self._full.clear()

    def _bring_due(self) -> None:
        now = time.monotonic() if self._later else 0.0
        while self._later and self._later[0][0] <= now:
            _, _, model, job = heapq.heappop(self._later)
            self._put(model, job)

    def _serve_lane(self, lane: Lane) -> None:
        wakes = self._wakes
        is_interactive, model = lane
        jobs: list[JobT] = []
        try:
            if not is_interactive and not self._has_room(model):
                self._mark_full(model, wakes)
                return
            jobs = self._take(lane, gathered=not is_interactive and self._gather(model))
            if jobs:
                self._work(model, jobs)
        except BaseException as error:  # a thread that died would take its share of the speed along
            logger.exception("Preparing for %s crashed", model)
            self._crashed(jobs or self._take(lane), error)

    def _gather(self, model: str) -> bool:
        """Let more jobs come if they come in quick succession; meanwhile no other thread is woken for this model."""
        with self._changed:
            now = time.monotonic()
            last, self._looked_at[model] = self._looked_at.get(model, 0.0), now
            batch = self._batch(model)
            if batch == 1 or now - last > 2 * self._gather_s or len(self._queues.get((False, model), ())) >= batch:
                return False
            self._gathering.add(model)
        time.sleep(self._gather_s)
        with self._changed:
            self._gathering.discard(model)
            self._looked_at[model] = time.monotonic()
        return True

    def _mark_full(self, model: str, wakes: int) -> None:
        with self._changed:
            if wakes == self._wakes:  # otherwise room may have appeared while the model was being asked
                self._full.add(model)

    def _take(self, lane: Lane, *, gathered: bool = False) -> list[JobT]:
        """Take a share of a lane's jobs, or all that were gathered; the lane's next turn is behind the others'."""
        with self._changed:
            queue = self._queues.pop(lane, None)
            if queue is None:
                return []
            share = len(queue) if gathered else -(-len(queue) // max(1, self._wanted))
            jobs = [queue.popleft() for _ in range(min(share, self._batch(lane[1])))]
            if queue:
                self._queues[lane] = queue
            # Another thread takes the rest, or keeps the time until the next retry.
            if self._idle and (self._queues or self._later):
                self._changed.notify()
            return jobs

    def _crashed(self, jobs: list[JobT], error: BaseException) -> None:
        try:
            self._on_crash(jobs, error)
        except BaseException:
            logger.exception("%d jobs are lost", len(jobs))
