"""A producer never waits long for the plan, and never fails for it."""

from __future__ import annotations

import logging
import threading

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from legit_embedding.migration.cutover.plan import Plan
from legit_embedding.migration.cutover.store import LastKnown


class Reads:
    """A store that a test turns on and off, and a clock that it turns."""

    def __init__(self):
        self.now, self.count, self.outcome = 0.0, 0, Plan(share=25)

    def __call__(self):
        self.count += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def known(self):
        return LastKnown(self, ttl=2, clock=lambda: self.now)


def test_what_was_read_holds_for_a_while():
    reads = Reads()
    plan = reads.known()
    assert [plan().share for _ in range(1000)] == [25] * 1000
    assert reads.count == 1
    reads.outcome, reads.now = Plan(share=50), 1.99
    assert plan().share == 25
    reads.now = 2.0
    assert plan().share == 50


@pytest.mark.parametrize("error", [RedisConnectionError("away"), ValueError("no plan"), OSError("no route")])
def test_the_last_known_plan_holds_while_it_cannot_be_read(error, caplog):
    reads = Reads()
    plan = reads.known()
    assert plan().share == 25
    reads.outcome = error
    with caplog.at_level(logging.WARNING):
        for reads.now in range(2, 100, 2):
            assert plan().share == 25
    assert len(caplog.records) == 1, "said once, not every two seconds"
    reads.outcome, reads.now = Plan(share=75), 200
    assert plan().share == 75


def test_nothing_moves_before_anything_is_known():
    reads = Reads()
    reads.outcome = RedisConnectionError("away")
    plan = reads.known()
    assert plan().share == 0
    assert plan().share == 0
    assert reads.count == 1, "an unreachable server is not asked for every task"


def test_one_thread_reads_and_the_others_go_on():
    reads = Reads()
    plan = reads.known()
    assert plan().share == 25
    asked, answer = threading.Event(), threading.Event()

    def slow():
        asked.set()
        assert answer.wait(10)
        return Plan(share=50)

    plan._read = slow
    reads.now = 5.0
    reader = threading.Thread(target=plan)
    reader.start()
    assert asked.wait(10)
    assert plan().share == 25, "did not wait for the other thread"
    answer.set()
    reader.join(10)
    assert plan().share == 50
