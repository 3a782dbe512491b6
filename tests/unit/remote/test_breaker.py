from __future__ import annotations

import time

from legit_embedding.redis_io.connection import Backoff
from legit_embedding.redis_io.health import Outage
from legit_embedding.remote.breaker import FAILURES, Breaker
from legit_embedding.remote.lane import TRIES_ALONE, FailureRate


def breaker() -> Breaker:
    return Breaker(Outage("the remote"), Backoff(first_s=100.0, cap_s=100.0))


def test_it_begins_open_and_healthy() -> None:
    new = breaker()
    assert (new.is_open, new.outage.health.ok, new.wait_s(time.monotonic())) == (True, True, 0.0)


def test_it_closes_with_the_first_success_and_opens_after_some_failures() -> None:
    new = breaker()
    new.succeeded()
    assert not new.is_open
    for _ in range(FAILURES - 1):
        new.failed("bad")
    assert (new.is_open, new.outage.health.ok, new.wait_s(time.monotonic())) == (False, True, 0.0)
    new.succeeded()
    for _ in range(FAILURES):
        new.failed("bad")
    assert (new.is_open, new.outage.health.error) == (True, "bad")
    assert 40 < new.wait_s(time.monotonic()) <= 100
    new.succeeded()
    assert (new.is_open, new.outage.health.ok, new.wait_s(time.monotonic())) == (False, True, 0.0)


def test_the_pause_that_a_remote_asks_for_holds_while_it_is_closed_too() -> None:
    new = breaker()
    new.succeeded()
    new.failed("429", retry_after_s=30.0)
    assert not new.is_open
    assert 29 < new.wait_s(time.monotonic()) <= 30


def test_tripping_it_asks_for_a_probe_at_once() -> None:
    new = breaker()
    new.succeeded()
    new.trip("refuses")
    assert (new.is_open, new.wait_s(time.monotonic()), new.outage.health.error) == (True, 0.0, "refuses")


def test_the_more_requests_fail_the_more_failures_are_needed_to_blame_an_item() -> None:
    rate = FailureRate()
    assert rate.tries() == TRIES_ALONE
    needed = []
    for fails in (0.3, 0.6, 0.9):
        for number in range(1000):
            rate.add(int(number % 10 < 10 * fails))
        needed.append(rate.tries())
        assert abs(rate.share - fails) < 0.1
        assert fails ** needed[-1] < 1e-6
    assert needed == sorted(needed)
