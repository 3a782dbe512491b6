"""Any ordinary task behaves on `gpubatch` as it does on `threads`."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from tests import clients
from tests.waiting import wait_for


@pytest.fixture
def client(shared_client):
    return shared_client


def signature(client, name, *args):
    return client.app.signature(f"tests.tasks.{name}", args=args)


def test_results_chains_groups_and_chords(client):
    add = lambda *args: signature(client, "add", *args)  # noqa: E731
    assert add(2, 3).apply_async().get(timeout=20) == 5
    assert chain(add(1, 2), add(10), add(100)).apply_async().get(timeout=20) == 113
    assert group(add(i, i) for i in range(10)).apply_async().get(timeout=20) == [2 * i for i in range(10)]
    assert chord([add(i, i) for i in range(10)], signature(client, "total")).apply_async().get(timeout=20) == 90


def test_retries(client):
    assert client.send("tests.tasks.third_time").get(timeout=20) == 2


def test_failures_are_failures(client):
    with pytest.raises(ValueError, match="a bad value"):
        client.send("tests.tasks.fail", "value").get(timeout=20)


@pytest.mark.parametrize(("kind", "shown"), [("memory", "too much"), ("exit", "SystemExit")])
def test_what_kills_a_process_elsewhere_is_an_acknowledged_failure(client, kind, shown):
    with pytest.raises(Exception, match=shown):
        client.send("tests.tasks.fail", kind).get(timeout=20)
    wait_for(lambda: client.redis.hlen("unacked") == 0, 20, "the message to be acknowledged")
    assert client.send("tests.tasks.add", 1, 1).get(timeout=20) == 2, "the worker goes on"


def test_embedding_tasks_in_a_canvas(client):
    """Callbacks fire with the receipt, once the vector is confirmed."""
    texts = [client.app.signature(clients.PREPARE_TEXT, args=({"task_id": f"t{i}", "text": "x"},)) for i in range(8)]
    receipts = group(texts).apply_async().get(timeout=20)
    assert [receipt["task_id"] for receipt in receipts] == [f"t{i}" for i in range(8)]
    written = {entry["task_id"] for entry in client.entries()}
    assert {f"t{i}" for i in range(8)} <= written
