from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from legit_embedding.pool.greenlets import GreenletThread, wait_for


@pytest.fixture
def thread():
    thread = GreenletThread("trace-test")
    thread.start()
    yield thread
    thread.stop(10)
    assert not thread.is_alive()


def test_many_wait_on_one_thread_and_go_on_there(thread):
    futures = [Future() for _ in range(500)]
    started, finished = threading.Event(), threading.Event()
    waiting, seen = [], {}

    def run(number: int):
        waiting.append(number)
        if len(waiting) == len(futures):
            started.set()
        value = wait_for(futures[number])
        seen[number] = (value, threading.get_ident())
        if len(seen) == len(futures):
            finished.set()

    for number in range(len(futures)):
        thread.begin(lambda number=number: run(number))
    assert started.wait(10), "a waiting task must not keep the next from starting"
    for number in reversed(range(len(futures))):
        futures[number].set_result(number * 2)
    assert finished.wait(10)
    assert {number: value for number, (value, _) in seen.items()} == {n: n * 2 for n in range(500)}
    assert {ident for _, ident in seen.values()} == {thread.ident}


def test_a_done_future_needs_no_switch(thread):
    done: Future[str] = Future()
    done.set_result("there")
    seen: Future[str] = Future()
    thread.begin(lambda: seen.set_result(wait_for(done)))
    assert seen.result(10) == "there"


def test_a_failure_is_raised_where_the_task_waits(thread):
    failing: Future[None] = Future()
    seen: Future[BaseException] = Future()

    def run():
        try:
            wait_for(failing)
        except ValueError as error:
            seen.set_result(error)

    thread.begin(run)
    error = ValueError("no")
    failing.set_exception(error)
    assert seen.result(10) is error


def test_blocks_on_any_other_thread():
    future: Future[int] = Future()
    timer = threading.Timer(0.01, future.set_result, (5,))
    timer.start()
    assert wait_for(future) == 5


def test_celerys_locals_are_kept_apart(thread):
    """Celery keeps the current task and its request in stacks that must be a greenlet's own."""
    from celery.utils.threads import LocalStack

    stack, gate, depths = LocalStack(), Future(), []
    both, done = threading.Event(), threading.Event()

    def run(name: str):
        stack.push(name)
        if name == "b":
            both.set()
        wait_for(gate)
        depths.append((name, stack.top, len(stack)))
        stack.pop()
        if len(depths) == 2:
            done.set()

    thread.begin(lambda: run("a"))
    thread.begin(lambda: run("b"))
    assert both.wait(10)
    gate.set_result(None)
    assert done.wait(10)
    assert sorted(depths) == [("a", "a", 1), ("b", "b", 1)]
