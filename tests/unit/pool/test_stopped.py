from __future__ import annotations

import os

import pytest
from celery.exceptions import Reject

from legit_embedding.celery import app
from legit_embedding.pool import TaskPool
from tests.waiting import wait_for


def test_a_pool_that_is_stopped_takes_no_task():
    pool = TaskPool(1, app=app)
    ran = []
    pool.on_apply(ran.append, (1,))
    assert pool.info["processes"] == [os.getpid()]
    wait_for(lambda: ran, 10, "the task to have run")  # what has not begun is left to others
    pool.on_stop()
    assert ran == [1]
    with pytest.raises(Reject, match="stopped") as refusal:
        pool.on_apply(ran.append, (2,))
    assert refusal.value.requeue
