from __future__ import annotations

import threading

from legit_embedding.pool.threads import WorkerThreads
from tests.waiting import wait_for


def test_runs_as_many_at_once_as_it_has_threads():
    threads = WorkerThreads(3, "t")
    barrier = threading.Barrier(3)
    done: list[int] = []

    def run():
        barrier.wait(10)
        done.append(1)

    for _ in range(6):
        threads.submit(run)
    wait_for(lambda: len(done) == 6, 10, "six runs, three at a time")
    assert len(threads) == 3
    threads.stop(10)
    assert len(threads) == 0


def test_threads_are_made_when_needed():
    threads = WorkerThreads(8, "t")
    assert len(threads) == 0
    for _ in range(3):
        ran = threading.Event()
        threads.submit(ran.set)
        assert ran.wait(10)
        wait_for(lambda: threads._unfinished == 0, 10, "the thread to be idle")
    assert len(threads) == 1
    threads.stop(10)


def test_grows_for_what_is_waiting():
    threads = WorkerThreads(1, "t")
    release, started = threading.Event(), []

    def run():
        started.append(1)
        release.wait(10)

    for _ in range(3):
        threads.submit(run)
    wait_for(lambda: len(started) == 1, 10, "the one thread to be busy")
    threads.resize(3)
    wait_for(lambda: len(started) == 3, 10, "the new threads to start the waiting runs")
    release.set()
    threads.stop(10)


def test_shrinks_to_its_new_size_and_still_runs():
    threads = WorkerThreads(4, "t")
    barrier = threading.Barrier(5)
    for _ in range(4):
        threads.submit(lambda: barrier.wait(10))
    barrier.wait(10)
    threads.resize(1)
    wait_for(lambda: len(threads) == 1, 10, "three threads to leave")
    ran = threading.Event()
    threads.submit(ran.set)
    assert ran.wait(10)
    threads.stop(10)
