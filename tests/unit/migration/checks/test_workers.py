"""What the workers that answer know and consume."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from celery import Celery

from legit_embedding.migration.checks import workers

OURS = "legit_embedding.preparation.prepare_text"


class Lists:
    """A server's lists."""

    def __init__(self, **lists):
        self._lists = lists

    def lindex(self, name, _):
        return self._lists[name][-1]

    def llen(self, name):
        return len(self._lists[name])


def nothing():
    pass


@pytest.fixture
def deployment():
    app = Celery("new", set_as_current=False)
    app.conf.task_default_queue = "embedding"
    app.task(name=OURS, shared=False)(nothing)
    registered, consumed = {"prep1@host": [OURS, "celery.chord"]}, {"new@host": ["embedding"]}
    return SimpleNamespace(app=app, registered=registered, consumed=consumed, lists=[], redis=Lists())


def test_the_same_names_are_fine(deployment):
    assert workers.task_names(deployment).level == "ok"
    deployment.registered["prep2@host"] = [f"{OURS} [rate_limit=10/s]"]
    assert workers.task_names(deployment).level == "ok"


def test_an_embedding_task_that_is_not_mapped_fails(deployment):
    deployment.registered["prep1@host"] += ["shop.tasks.prepare_image", "shop.tasks.mail"]
    finding = workers.task_names(deployment)
    assert (finding.level, "shop.tasks.prepare_image" in finding.what) == ("fail", True)
    assert "task_names" in finding.todo


def test_an_ordinary_task_is_a_warning(deployment):
    deployment.registered["prep1@host"].append("shop.tasks.mail")
    finding = workers.task_names(deployment)
    assert (finding.level, "shop.tasks.mail" in finding.what) == ("warn", True)


def test_nobody_answers(deployment):
    deployment.registered, deployment.consumed = {}, {}
    assert workers.task_names(deployment).level == "warn"
    assert workers.queues(deployment).level == "warn"


def test_only_unattended_queues_of_celerys_count(deployment):
    message = json.dumps({"headers": {"task": OURS}}).encode()
    lists = {"embedding": [message], "left": [message] * 3, "log": [b"a line"], "json": [b'{"headers": 1}', b"[]"]}
    deployment.lists, deployment.redis = list(lists), Lists(**lists)
    finding = workers.queues(deployment)
    assert finding.level == "fail"
    assert finding.what.endswith("consumes: left (3)")
    assert "add_consumer left" in finding.todo
