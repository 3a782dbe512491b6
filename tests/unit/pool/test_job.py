from __future__ import annotations

import pytest
from billiard.exceptions import WorkerLostError

from legit_embedding.pool.job import PoolJob


class Reports:
    def __init__(self):
        self.accepted = self.succeeded = self.failed = None
        self.finished = []

    def job(self, target):
        def accepted(pid, when):
            self.accepted = (pid, when)

        def succeeded(outcome):
            self.succeeded = outcome

        def failed(einfo):
            self.failed = einfo

        return PoolJob(target, (1,), {"b": 2}, succeeded, accepted, failed, self.finished.append)


def test_accepts_then_reports_what_the_target_returned():
    reports = Reports()
    job = reports.job(lambda a, b: (reports.accepted is not None, a, b))
    job.run()
    assert reports.succeeded == (True, 1, 2)
    assert reports.failed is None
    assert reports.finished == [job]


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_what_would_end_a_child_process_is_a_failure(error):
    reports = Reports()

    def target(a, b):
        raise error

    job = reports.job(target)
    job.run()
    assert isinstance(reports.failed.exception.exc, WorkerLostError)
    assert repr(error) in str(reports.failed.exception.exc)
    assert reports.finished == [job]


def test_an_error_outside_the_tracer_is_reported():
    reports = Reports()
    reports.job(lambda a, b: {}["no such task"]).run()
    assert isinstance(reports.failed.exception.exc, KeyError)


def test_a_broken_callback_still_finishes_the_job():
    finished = []

    def broken(_):
        raise ValueError("the callback")

    job = PoolJob(lambda: 1, (), {}, broken, None, None, finished.append)
    job.run()
    assert finished == [job]
