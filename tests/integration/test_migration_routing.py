"""Shares and copies, with real applications on a real server."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import ExitStack

import pytest
from celery import Celery

from legit_embedding.config import Settings
from legit_embedding.migration.cutover import outbox
from legit_embedding.migration.cutover.plan import Plan, Scope
from legit_embedding.migration.cutover.router import Cutover
from legit_embedding.migration.cutover.share import Subject
from legit_embedding.migration.cutover.store import KEY, LastKnown, PlanStore
from tests.clients import PREPARE_BATCH, PREPARE_TEXT, Client
from tests.waiting import wait_for

IDS = [f"t{number}" for number in range(200)]


@pytest.fixture
def client(redis_url):
    return Client(redis_url)


@pytest.fixture
def store(client):
    return PlanStore(client.redis)


@pytest.fixture
def make_producer(redis_url):
    """Producers with the routes of the profile, each with a view of the plan of its own."""
    with ExitStack() as stack:

        def make(ttl=0.0):
            settings = Settings(redis_url=redis_url)
            cutover = Cutover("old", "new", settings, LastKnown(PlanStore.at(redis_url).read, ttl))
            app = Celery("producer", broker=redis_url, set_as_current=False)
            app.conf.update(task_routes=(cutover,), task_default_queue="old", task_ignore_result=True)
            stack.callback(cutover.copier.close)
            stack.callback(app.close)
            return app, cutover.copier

        yield make


def send(app, ids=IDS, **options):
    for task_id in ids:
        app.send_task(PREPARE_TEXT, ({"task_id": task_id, "text": "x"},), **options)


def queued(client, queue):
    """The messages of a queue: their headers and their bodies."""
    messages = [json.loads(raw) for raw in client.redis.lrange(queue, 0, -1)]
    return [(message["headers"], json.loads(base64.b64decode(message["body"]))) for message in messages]


def task_ids(client, queue):
    return {body[0][0]["task_id"] for _, body in queued(client, queue)}


def test_every_producer_follows_one_key(client, store, make_producer):
    producers = [make_producer()[0] for _ in range(2)]
    seen = set()
    for share in (0, 5, 50, 100):
        client.redis.delete("old", "new")
        store.change(lambda plan, share=share: plan.with_share(share))
        for producer in producers:
            send(producer)
        moved = {task_id for task_id in IDS if Subject(task_id).within(share)}
        assert task_ids(client, "new") == moved
        assert task_ids(client, "old") == set(IDS) - moved
        assert client.redis.llen("new") == 2 * len(moved), "both producers sent the same tasks there"
        assert seen <= moved
        seen = moved


def test_a_queue_that_the_caller_names_wins(client, store, make_producer):
    store.change(lambda plan: plan.with_share(100))
    send(make_producer()[0], queue="elsewhere")
    assert client.redis.llen("elsewhere") == len(IDS)


def test_a_producer_follows_when_what_it_knows_is_old(client, store, make_producer):
    producer, _ = make_producer(ttl=1.0)
    send(producer)
    store.change(lambda plan: plan.with_share(100))

    def follows():
        send(producer, ["t"])
        return client.redis.llen("new") > 0

    wait_for(follows, 10, "the producer to follow")
    assert client.redis.llen("old") > len(IDS), "it went by what it knew for a while"


def test_the_last_known_share_holds_while_the_server_is_away(own_server):
    store = PlanStore(own_server.client())
    store.change(lambda plan: plan.with_share(50))
    plan = LastKnown(PlanStore.at(own_server.url).read, ttl=0)
    assert plan().share == 50
    own_server.pause()
    started = time.monotonic()
    assert plan().share == 50
    assert time.monotonic() - started < 5, "a frozen server does not hold a producer up"
    own_server.resume()
    own_server.kill()
    assert plan().share == 50
    assert LastKnown(PlanStore.at(own_server.url).read)().share == 0, "a new producer moves nothing"
    own_server.start()
    PlanStore(own_server.client()).change(lambda plan: plan.with_share(75))
    assert plan().share == 75


def test_changes_at_the_same_time_are_all_made(redis_url, store):
    def add(number):
        PlanStore(Client(redis_url).redis).change(lambda plan: plan.with_share(number, Scope(app=f"app{number}")))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {rule.share for rule in store.read().rules} == set(range(8))


def test_a_broken_document_can_be_rolled_back(client, store):
    client.redis.set(KEY, "nonsense")
    with pytest.raises(ValueError, match="JSON"):
        store.change(lambda plan: plan.with_share(5))
    assert store.roll_back().share == 0
    client.redis.delete(KEY)
    client.redis.rpush(KEY, "not even text")
    assert store.roll_back().share == 0
    assert store.read().share == 0


def test_copies_go_to_the_new_worker_and_answer_elsewhere(client, store, make_producer):
    producer, copier = make_producer()
    store.change(lambda plan: plan.with_shadow(20, "embedding_results:shadow"))
    send(producer, link=producer.signature("shop.tasks.done"))
    expected = {task_id for task_id in IDS if Subject(task_id).within(20, "shadow")}
    wait_for(lambda: client.redis.llen("new") == len(expected), 20, "the copies")
    assert task_ids(client, "new") == expected
    assert task_ids(client, "old") == set(IDS), "the originals are all with the old fleet"
    assert copier.dropped == 0
    originals, copies = queued(client, "old"), queued(client, "new")
    assert {body[0][0].get("reply_to") for _, body in originals} == {None}
    assert {body[0][0]["reply_to"] for _, body in copies} == {"embedding_results:shadow"}
    assert not {headers["id"] for headers, _ in originals} & {headers["id"] for headers, _ in copies}
    assert all(body[2]["callbacks"] for _, body in originals)
    assert not any(body[2]["callbacks"] for _, body in copies), "a copy calls nobody back"


def test_a_batch_is_copied_too(client, store, make_producer):
    producer, _ = make_producer()
    store.change(lambda plan: plan.with_shadow(100, "embedding_results:shadow"))
    producer.send_task(PREPARE_BATCH, ([{"task_id": "a", "text": "x"}, {"task_id": "b", "text": "y"}],))
    wait_for(lambda: client.redis.llen("new"), 20, "the copy")
    [(_, body)] = queued(client, "new")
    assert [task["reply_to"] for task in body[0][0]] == ["embedding_results:shadow"] * 2


def test_what_is_moved_is_not_copied(client, store, make_producer):
    producer, copier = make_producer()
    store.change(lambda _: Plan(share=50).with_shadow(100, "embedding_results:shadow"))
    send(producer)
    stay = {task_id for task_id in IDS if not Subject(task_id).within(50)}
    wait_for(lambda: copier.copied == len(stay), 20, "the copies")
    assert client.redis.llen("new") == len(IDS), "each task once, moved or copied"


def test_copies_stop_for_a_worker_that_is_away(client, store, make_producer, monkeypatch):
    monkeypatch.setattr(outbox, "BACKLOG", 10)
    monkeypatch.setattr(outbox, "LOOK_S", 0.0)
    producer, copier = make_producer()
    store.change(lambda plan: plan.with_shadow(100, "embedding_results:shadow"))
    send(producer)
    wait_for(lambda: copier.copied + copier.dropped == len(IDS), 20, "the copies")
    assert client.redis.llen("new") == copier.copied == 11
    assert client.redis.llen("old") == len(IDS)


def test_originals_go_on_when_copies_cannot_be_sent(client, store, make_producer):
    producer, copier = make_producer()
    store.change(lambda plan: plan.with_shadow(100, "embedding_results:shadow"))
    client.redis.set("new", "a key of another type: every push to it fails")
    send(producer)
    wait_for(lambda: copier.dropped == len(IDS), 20, "the drops")
    assert task_ids(client, "old") == set(IDS)
