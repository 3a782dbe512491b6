"""What a copy of a task is, and that nothing about it reaches the original."""

from __future__ import annotations

import logging
import threading

import pytest

from legit_embedding.migration.cutover import copier as module
from legit_embedding.migration.cutover.copier import Copier
from tests.waiting import wait_for

TASK = {"task_id": "t", "text": "x", "reply_to": "embedding_results:shop", "app": "shop", "return_embedding": True}

APP = object()


class Outbox:
    """Keeps what it is given; a test may make it fail."""

    def __init__(self):
        self.sent, self.error, self.gate = [], None, threading.Event()
        self.gate.set()

    def send(self, name, argument):
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.sent.append((name, argument))

    def close(self):
        pass


@pytest.fixture
def outbox(monkeypatch):
    outbox = Outbox()
    # Copiers of other tests in this process may still be at work.
    monkeypatch.setattr(module, "Outbox", lambda app, queue: outbox if app is APP else Outbox())
    return outbox


@pytest.fixture
def copier(outbox):
    copier = Copier(lambda: APP, "new")
    yield copier
    outbox.gate.set()
    copier.close(10)


def test_a_copy_answers_elsewhere_and_returns_nothing(copier, outbox):
    copier.put("prepare_text", TASK, "shadow")
    wait_for(lambda: outbox.sent, 10, "the copy")
    assert outbox.sent == [("prepare_text", {"task_id": "t", "text": "x", "app": "shop", "reply_to": "shadow"})]
    assert TASK["reply_to"] == "embedding_results:shop"


def test_a_batch_is_copied_whole(copier, outbox):
    copier.put("prepare_batch", [TASK, {"task_id": "u"}, "nonsense"], "shadow")
    wait_for(lambda: outbox.sent, 10, "the copy")
    assert [task["reply_to"] for task in outbox.sent[0][1]] == ["shadow", "shadow"]


@pytest.mark.parametrize("argument", [None, "nonsense", 7, [], ["nonsense"]])
def test_what_carries_no_task_is_not_copied(copier, outbox, argument):
    copier.put("prepare_text", argument, "shadow")
    copier.put("prepare_text", {"task_id": "last"}, "shadow")
    wait_for(lambda: outbox.sent, 10, "the last copy")
    assert [task["task_id"] for _, task in outbox.sent] == ["last"]


def test_a_broken_broker_costs_copies_only(copier, outbox, caplog):
    outbox.error = ConnectionError("the broker is away")
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            copier.put("prepare_text", {"task_id": f"t{number}"}, "shadow")
        wait_for(lambda: copier.dropped == 50, 10, "the drops")
    assert len(caplog.records) == 1, "said once in a row"
    outbox.error = None
    copier.put("prepare_text", {"task_id": "later"}, "shadow")
    wait_for(lambda: copier.copied == 1, 10, "the copy after the trouble")


def test_a_slow_broker_costs_copies_only(copier, outbox):
    outbox.gate.clear()
    for number in range(module.WAITING + 50):
        copier.put("prepare_text", {"task_id": f"t{number}"}, "shadow")
    assert copier.dropped >= 49
    outbox.gate.set()
    wait_for(lambda: copier.copied + copier.dropped == module.WAITING + 50, 10, "the rest")


def test_what_waits_is_sent_at_the_end(copier, outbox):
    for number in range(100):
        copier.put("prepare_text", {"task_id": f"t{number}"}, "shadow")
    copier.close(10)
    assert len(outbox.sent) == 100
