from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from legit_embedding.errors import CudaForbiddenError
from legit_embedding.prep import stage as module
from legit_embedding.prep.cuda_guard import is_guarded
from legit_embedding.prep.stage import BATCH, PrepStage
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 30.0


class Recorder:
    """Work that notes what it was given, and can be held up."""

    def __init__(self) -> None:
        self.chunks: list[tuple[str, list[Any]]] = []
        self.crashed: list[tuple[list[Any], BaseException]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Semaphore(0)
        self.changed = threading.Condition()

    def __call__(self, model: str, jobs: list[Any]) -> None:
        self.inside.release()
        assert self.gate.wait(LONG)
        with self.changed:
            self.threads.add(threading.current_thread().name)
            self.chunks.append((model, jobs))
            self.changed.notify_all()
        for job in jobs:
            if isinstance(job, BaseException):
                raise job

    def crash(self, jobs: list[Any], error: BaseException) -> None:
        self.crashed.append((jobs, error))

    @property
    def jobs(self) -> list[Any]:
        return [job for _, jobs in self.chunks for job in jobs]

    def wait_for_jobs(self, count: int) -> list[Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.jobs) >= count, LONG), f"{len(self.jobs)} of {count}"
            return self.jobs

    def entered(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.inside.acquire(timeout=LONG / 3)  # before the gate gives up


@pytest.fixture
def work() -> Recorder:
    return Recorder()


@contextmanager
def running(
    work: Callable[[str, list[Any]], None], threads: int = 1, *, start: bool = True, **options: Any
) -> Iterator[PrepStage[Any]]:
    options = {"has_room": lambda model: True, "on_crash": getattr(work, "crash", None)} | options
    stage: PrepStage[Any] = PrepStage(work, threads=threads, **options)
    if start:
        stage.start()
    yield stage
    if isinstance(work, Recorder):
        work.gate.set()
    assert stage.close(LONG)


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up that is lost stays lost."""
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 3600.0)


def prep_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("prep-"))


def test_what_waits_together_is_taken_together(work: Recorder) -> None:
    with running(work, start=False) as stage:
        for number in range(BATCH + 3):
            stage.submit("text", number)
        assert stage.waiting() == stage.waiting("text") == BATCH + 3
        stage.start()
        work.wait_for_jobs(BATCH + 3)
    assert [len(jobs) for _, jobs in work.chunks] == [BATCH, 3]
    assert work.jobs == list(range(BATCH + 3)), "first come, first served"


def test_the_threads_share_what_waits(work: Recorder) -> None:
    work.gate.clear()
    with running(work, threads=4, start=False) as stage:
        for number in range(8):
            stage.submit("text", number)
        stage.start()
        work.entered(4)
        work.gate.set()
        work.wait_for_jobs(8)
    assert max(len(jobs) for _, jobs in work.chunks) == 2
    assert sorted(work.jobs) == list(range(8))


def test_the_batch_is_each_models_own(work: Recorder) -> None:
    with running(work, start=False, batch={"image": 1, "text": 5}.__getitem__) as stage:
        for number in range(10):
            stage.submit("image", number)
            stage.submit("text", number)
        stage.start()
        work.wait_for_jobs(20)
    sizes = Counter((model, len(jobs)) for model, jobs in work.chunks)
    assert sizes == {("image", 1): 10, ("text", 5): 2}


def test_models_take_turns(work: Recorder) -> None:
    with running(work, start=False, batch=lambda model: 2) as stage:
        for number in range(6):
            stage.submit("a", number)
        for number in range(6):
            stage.submit("b", number)
        stage.submit("c", 0)
        stage.start()
        work.wait_for_jobs(13)
    assert [model for model, _ in work.chunks] == ["a", "b", "c", "a", "b", "a", "b"]


@pytest.mark.usefixtures("no_second_look")
def test_a_full_model_waits_and_the_others_go_on(work: Recorder) -> None:
    full = {"image"}
    with running(work, threads=2, has_room=lambda model: model not in full) as stage:
        stage.submit("image", "waits")
        stage.submit("text", "goes on")
        assert work.wait_for_jobs(1) == ["goes on"]
        stage.wake()
        stage.submit("text", "again")
        assert work.wait_for_jobs(2) == ["goes on", "again"]
        assert stage.waiting("image") == 1
        full.clear()
        stage.wake()
        assert work.wait_for_jobs(3)[-1] == "waits"


@pytest.mark.usefixtures("no_second_look")
def test_room_that_appears_while_a_model_is_asked_is_not_missed(work: Recorder) -> None:
    answers = iter([False])

    def has_room(model: str) -> bool:
        answer = next(answers, True)
        if not answer:
            stage.wake()  # between the answer and its being heeded
        return answer

    with running(work, has_room=has_room) as stage:
        stage.submit("text", 1)
        work.wait_for_jobs(1)


def test_room_that_nobody_tells_of_is_found(work: Recorder) -> None:
    asked = iter([False, False])
    with running(work, has_room=lambda model: next(asked, True)) as stage:
        stage.submit("text", 1)
        work.wait_for_jobs(1)


def test_locks_may_be_held_in_both_directions(work: Recorder) -> None:
    lock = threading.Lock()  # an accumulator's

    def has_room(model: str) -> bool:
        with lock:
            return True

    with running(work, threads=2, has_room=has_room) as stage:
        for number in range(2000):
            stage.submit("text", number)
            with lock:
                stage.wake()
        work.wait_for_jobs(2000)


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("threads", [1, 3])
def test_no_wake_up_is_lost(work: Recorder, threads: int) -> None:
    with running(work, threads=threads) as stage:
        for number in range(240):
            stage.submit("text", number)
            if number % 3 == 0:
                work.wait_for_jobs(number + 1)
        work.wait_for_jobs(240)


class Flaky:
    """Work that fails twice for every seventh job, and has it tried again."""

    def __init__(self, work: Recorder) -> None:
        self.work = work
        self.attempts: Counter[int] = Counter()
        self.stage: PrepStage[int]

    def __call__(self, model: str, jobs: list[int]) -> None:
        self.attempts.update(jobs)
        again = [job for job in jobs if job % 7 == 0 and self.attempts[job] < 3]
        for job in again:
            self.stage.submit_later(model, job, 0.001)
        self.work(model, [job for job in jobs if job not in again])


@pytest.mark.usefixtures("no_second_look")
def test_nothing_is_lost_or_done_twice_whatever_happens(work: Recorder) -> None:
    draw = random.Random(8)
    full: set[str] = set()
    flaky = Flaky(work)

    def submit(start: int) -> None:
        for job in range(start, start + 1000):
            flaky.stage.submit(f"model {job % 3}", job)

    with (
        running(flaky, threads=2, has_room=lambda model: model not in full) as flaky.stage,
        ThreadPoolExecutor() as many,
    ):
        list(many.map(submit, (0, 1000, 2000)))
        while len(work.jobs) < 3000:
            full.symmetric_difference_update({f"model {draw.randrange(3)}"})
            flaky.stage.wake()
            flaky.stage.resize(draw.randint(1, 4))
    assert Counter(work.jobs) == Counter(range(3000))
    assert {flaky.attempts[job] for job in range(0, 3000, 7)} == {3}


def test_a_later_attempt_holds_no_thread(work: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    with running(work) as stage:
        started = time.monotonic()
        stage.submit_later("text", "later", 0.2)
        stage.submit_later("text", "much later", 3600)
        stage.submit_later("text", "soon", 0.0)
        stage.submit("text", "now")
        assert set(work.wait_for_jobs(2)) == {"soon", "now"}
        assert stage.waiting("text") == 2
        assert work.wait_for_jobs(3)[-1] == "later"
        assert 0.25 <= time.monotonic() - started < 20
        assert stage.take_back() == ["much later"]


@pytest.mark.usefixtures("no_second_look")
def test_idle_threads_hear_of_a_later_attempt(work: Recorder) -> None:
    with running(work, threads=2) as stage:
        wait_for(lambda: stage._idle == 2, LONG, "both threads to be idle")
        stage.submit_later("text", "later", 0.01)
        work.wait_for_jobs(1)


class LastComeFirst(threading.Condition):
    """Notifies in the other order than CPython's, which is free to change it."""

    def notify(self, n: int = 1) -> None:
        self._waiters.reverse()  # type: ignore[attr-defined]
        super().notify(n)
        self._waiters.reverse()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("condition", [threading.Condition, LastComeFirst])
def test_a_later_attempt_is_not_forgotten_when_its_timekeeper_is_busy(
    work: Recorder, condition: type[threading.Condition]
) -> None:
    with running(work, threads=2, start=False) as stage:
        stage._changed = condition()
        stage.start()
        waiting: Any = stage._changed
        wait_for(lambda: len(waiting._waiters) == 2, LONG, "both threads to be idle")
        stage.submit_later("text", "later", 0.5)
        wait_for(lambda: len(waiting._waiters) == 2, LONG, "one of them to have noted the time")
        work.gate.clear()
        stage.submit("text", "long")
        work.entered(2)  # "later" came to the other thread, although the one that kept the time works


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [ValueError("bug"), SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_a_crash_costs_its_jobs_only(work: Recorder, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    with running(work, start=False) as stage:
        stage.submit("text", "neighbour")
        stage.submit("text", error)
        stage.start()
        wait_for(lambda: work.crashed, LONG, "the crash to be reported")
        stage.submit("text", "next")
        work.wait_for_jobs(3)
        assert len(prep_threads()) == 1
    assert work.crashed == [(["neighbour", error], error)]
    assert "Preparing for text crashed" in caplog.text


def test_even_a_crash_handler_may_crash(work: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    def crash(jobs: list[Any], error: BaseException) -> None:
        raise RuntimeError("as well")

    with running(work, on_crash=crash) as stage:
        stage.submit("text", ValueError("bug"))
        wait_for(lambda: "1 jobs are lost" in caplog.text, LONG, "the loss to be logged")
        stage.submit("text", "next")
        work.wait_for_jobs(2)


def test_a_question_for_room_that_crashes_is_answered_with_the_jobs(work: Recorder) -> None:
    def has_room(model: str) -> bool:
        raise LookupError(model)

    with running(work, has_room=has_room) as stage:
        stage.submit("text", 1)
        wait_for(lambda: work.crashed, LONG, "the crash to be reported")
    assert work.crashed[0][0] == [1]
    assert not work.chunks


def test_threads_come_and_go(work: Recorder) -> None:
    with running(work, threads=2) as stage:
        assert prep_threads() == ["prep-1", "prep-2"]
        stage.resize(4)
        assert prep_threads() == ["prep-1", "prep-2", "prep-3", "prep-4"]
        stage.resize(1)
        wait_for(lambda: len(prep_threads()) == 1, LONG, "three threads to leave")
        stage.submit("text", 1)
        work.wait_for_jobs(1)
        stage.resize(3)
        assert len(set(prep_threads())) == 3
    assert prep_threads() == []


def test_a_busy_thread_finishes_before_it_leaves(work: Recorder) -> None:
    work.gate.clear()
    with running(work, threads=3) as stage:
        for number in range(3):
            stage.submit(f"model {number}", number)
        work.entered(3)
        stage.resize(1)
        assert len(prep_threads()) == 3
        work.gate.set()
        assert sorted(work.wait_for_jobs(3)) == [0, 1, 2]
        wait_for(lambda: len(prep_threads()) == 1, LONG, "two threads to leave")


def test_closing_waits_for_what_was_begun_and_leaves_the_rest(work: Recorder) -> None:
    work.gate.clear()
    with running(work, batch=lambda model: 1) as stage:
        for number in range(3):
            stage.submit("text", number)
        stage.submit_later("image", 3, 3600)
        work.entered()
        assert not stage.close(0.01)
        assert not stage.close(-1)
        assert stage.waiting() == 3
        assert stage.take_back() == [1, 2, 3]
        assert stage.waiting() == 0
        work.gate.set()
        assert stage.close(LONG)
        stage.submit("text", "too late")
        stage.resize(3)
        assert stage.take_back() == ["too late"]
        assert prep_threads() == []
    assert work.jobs == [0]


def test_closing_before_the_start_is_fine(work: Recorder) -> None:
    with running(work, start=False) as stage:
        stage.submit("text", 1)
    assert stage.take_back() == [1]


def test_its_threads_are_guarded_and_keep_to_one_core() -> None:
    crashed: list[BaseException] = []
    seen: list[tuple[bool, int]] = []

    def violate(model: str, jobs: list[int]) -> None:
        seen.append((is_guarded(), torch.get_num_threads()))
        torch.ones(1).cuda()

    with running(violate, on_crash=lambda jobs, error: crashed.append(error)) as stage:
        stage.submit("image", 1)
        wait_for(lambda: crashed, LONG, "the violation")
    assert isinstance(crashed[0], CudaForbiddenError)
    assert "'prep-1'" in str(crashed[0])
    assert seen == [(True, 1)]
    assert not is_guarded()


def test_what_comes_in_quick_succession_is_prepared_together():
    taken: list[list[int]] = []
    stage = PrepStage[int](lambda _, jobs: taken.append(jobs), lambda _: True, 4, lambda *_: None, gather_s=0.2)
    stage._looked_at["text"] = time.monotonic() + 60  # as if a job had been looked for just now
    stage.start()
    for job in range(6):
        stage.submit("text", job)
    wait_for(lambda: sum(map(len, taken)) == 6, 10, "the six jobs")
    assert stage.close(10)
    assert [len(jobs) for jobs in taken] == [6], "one thread, one chunk"


def test_a_job_that_comes_alone_is_not_kept_waiting():
    taken = threading.Event()
    stage = PrepStage[int](lambda *_: taken.set(), lambda _: True, 1, lambda *_: None, gather_s=60)
    stage._looked_at["text"] = time.monotonic() - 600
    stage.start()
    stage.submit("text", 1)
    assert taken.wait(10)
    assert stage.close(10)


class TestInteractiveJobs:
    """Jobs are numbers; those from 100 on are interactive."""

    LANES: ClassVar[dict[str, Any]] = {"is_interactive": lambda job: job >= 100, "batch": lambda model: 1}

    def test_they_go_first_and_every_fifth_turn_is_for_the_others(self, work: Recorder) -> None:
        with running(work, start=False, **self.LANES) as stage:
            for number in range(3):
                stage.submit("a", number)
            for number in range(100, 110):
                stage.submit("a" if number % 2 else "b", number)
            assert (stage.waiting(), stage.waiting("b")) == (13, 5)
            stage.start()
            order = work.wait_for_jobs(13)
        assert [index for index, job in enumerate(order) if job < 100] == [4, 9, 12]
        assert [job for job in order if job < 100] == [0, 1, 2]

    def test_they_do_not_wait_for_room(self, work: Recorder, no_second_look: None) -> None:
        with running(work, has_room=lambda model: False, **self.LANES) as stage:
            stage.submit("a", 1)
            stage.submit("a", 100)
            work.wait_for_jobs(1)
            assert (work.jobs, stage.waiting("a")) == ([100], 1)
            assert stage.take_back() == [1]

    def test_they_do_not_wait_to_be_gathered(self, work: Recorder) -> None:
        options = self.LANES | {"batch": lambda model: 32, "gather_s": 3600.0}
        with running(work, threads=2, **options) as stage:
            stage.submit("a", 100)
            work.wait_for_jobs(1)
            stage.submit("a", 101)
            work.wait_for_jobs(2)
