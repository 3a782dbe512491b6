from __future__ import annotations

import gc
import time
import weakref

import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from legit_embedding.pool.task_run import Callbacks, PoolJob
from legit_embedding.pool.time_limits import Clock, Limits


class Reports:
    def __init__(self):
        self.accepted = self.succeeded = self.failed = None
        self.finished, self.timeouts = [], []

    def job(self, target, **options):
        def accepted(pid, when):
            self.accepted = (pid, when)

        def succeeded(outcome):
            self.succeeded = outcome

        def failed(einfo):
            self.failed = einfo

        def timed_out(soft, limit):
            self.timeouts.append((soft, limit))

        return PoolJob(target, Callbacks(accepted, succeeded, failed, timed_out), self.finished.append, **options)


def test_accepts_then_reports_what_the_target_returned():
    reports = Reports()
    job = reports.job(lambda: (0, reports.accepted is not None, 0.0))
    job.run()
    assert reports.succeeded == (0, True, 0.0)
    assert reports.failed is None
    assert reports.finished == [job]


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_what_would_end_a_child_process_is_a_failure(error):
    reports = Reports()

    def target():
        raise error

    job = reports.job(target)
    job.run()
    assert isinstance(reports.failed.exception.exc, WorkerLostError)
    assert repr(error) in str(reports.failed.exception.exc)
    assert reports.finished == [job]


def test_an_error_outside_the_tracer_is_reported():
    reports = Reports()
    reports.job(lambda: {}["no such task"]).run()
    assert isinstance(reports.failed.exception.exc, KeyError)


def test_a_broken_callback_still_finishes_the_job():
    finished = []

    def broken(_):
        raise ValueError("the callback")

    job = PoolJob(lambda: 1, Callbacks(success=broken), finished.append)
    job.run()
    assert finished == [job]


def busy(seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)


@pytest.fixture
def clock():
    clock = Clock()
    yield clock
    clock.close()


def test_a_soft_limit_is_raised_in_the_task(clock):
    reports = Reports()
    job = reports.job(busy, limits=Limits(soft=0.05), clock=clock)
    job.run()
    assert isinstance(reports.failed.exception.exc, SoftTimeLimitExceeded)
    assert reports.timeouts == [(True, 0.05)]
    assert reports.finished == [job]


def test_a_task_that_handles_the_soft_limit_succeeds(clock):
    def target():
        try:
            busy()
        except SoftTimeLimitExceeded:
            return (0, "saved", 0.0)

    reports = Reports()
    reports.job(target, limits=Limits(soft=0.05), clock=clock).run()
    assert reports.succeeded == (0, "saved", 0.0)


def test_a_hard_limit_is_reported_once_and_at_once(clock):
    def target():
        try:
            busy()
        except Ignore:
            order.append(("interrupted", list(reports.timeouts)))
            raise

    order, reports = [], Reports()
    reports.job(target, limits=Limits(hard=0.05), clock=clock).run()
    assert reports.timeouts == [(False, 0.05)]
    assert order
    assert reports.succeeded is None
    assert reports.failed is None


def test_a_task_within_its_limits_is_left_alone(clock):
    reports = Reports()
    reports.job(lambda: (0, 5, 0.0), limits=Limits(soft=30, hard=60), clock=clock).run()
    assert reports.succeeded == (0, 5, 0.0)
    assert reports.timeouts == []


def test_withdrawing_works_before_and_after_the_body_says_how():
    for withdraw_first in (True, False):
        job, calls = PoolJob(lambda: None, Callbacks(), lambda _: None, deferred=True), []
        steps = [job.withdraw, lambda job=job, calls=calls: job.on_withdraw(lambda: calls.append(1))]
        for step in steps if withdraw_first else reversed(steps):
            step()
        assert calls == [1]


def test_a_finished_task_s_embedding_is_freed_at_once():
    class Embedding:
        pass

    def body():
        embedding = Embedding()
        embeddings.append(weakref.ref(embedding))
        job.on_withdraw(lambda: (embedding, job.interruption))

    embeddings = []
    job = PoolJob(body, Callbacks(), lambda _: None, deferred=True)
    gc.disable()
    try:
        job.run()
        assert [reference() for reference in embeddings] == [None]
    finally:
        gc.enable()


def test_a_revoked_request_is_not_run():
    class Revoked:
        def revoked(self):
            return True

        def accept(self, pid, when):
            raise AssertionError

    ran, finished = [], []
    PoolJob(lambda: ran.append(1), Callbacks(accept=Revoked().accept), finished.append).run()
    assert not ran
    assert len(finished) == 1
