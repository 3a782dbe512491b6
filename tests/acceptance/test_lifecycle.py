"""What Celery's users do with a task and a worker, done with embedding tasks."""

from __future__ import annotations

import threading
import time

import pytest
from celery import chain, chord, group
from celery.canvas import chunks, xmap, xstarmap
from celery.exceptions import NotRegistered

from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.waiting import wait_for


@pytest.fixture
def client(shared_client):
    return shared_client


@pytest.fixture
def inspect(client):
    def inspect(command, *args):
        (reply,) = getattr(client.app.control.inspect(timeout=10, limit=1), command)(*args).values()
        return reply

    return inspect


def text(client, task_id, **options):
    return client.app.signature(PREPARE_TEXT, args=({"task_id": task_id, "text": task_id},), options=options)


@pytest.fixture
def events(client):
    """Every event of a task, as the worker sends them, until the test ends."""
    seen, stop = [], threading.Event()

    def listen():
        with client.app.connection_for_read() as connection:
            receiver = client.app.events.Receiver(connection, handlers={"*": seen.append})
            ready.set()
            while not stop.is_set():
                try:
                    receiver.capture(limit=None, timeout=0.2, wakeup=False)
                except TimeoutError:
                    continue

    ready = threading.Event()
    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(10)
    wait_for(lambda: any(event["type"] == "worker-heartbeat" for event in seen), 20, "the listener to hear the worker")
    yield lambda task_id: [event["type"] for event in seen if event.get("uuid") == task_id]
    stop.set()
    thread.join()


def test_each_event_comes_once_and_in_order(client, events):
    good = text(client, "good").delay()
    bad = client.send(PREPARE_TEXT, {"task_id": "bad"})
    good.get(timeout=20)
    wait_for(lambda: events(good.id)[-1:] == ["task-succeeded"], 20, "the last event")
    wait_for(lambda: events(bad.id)[-1:] == ["task-failed"], 20, "the last event")
    assert events(good.id) == ["task-received", "task-started", "task-succeeded"]
    assert events(bad.id) == ["task-received", "task-started", "task-failed"]


def test_a_countdown(client, inspect):
    sent = time.time()
    later = text(client, "later").apply_async(countdown=2)
    scheduled = wait_for(lambda: inspect("scheduled"), 10, "it to be scheduled")
    assert scheduled[0]["request"]["id"] == later.id
    assert later.get(timeout=20)["status"] == "ok"
    written_ms = int(later.get()["entry_id"].split("-")[0])
    assert written_ms / 1000 - sent >= 1.9


def test_a_rate_limit_set_while_it_runs(client):
    def limit(rate):
        (reply,) = client.app.control.rate_limit(PREPARE_TEXT, rate, reply=True, timeout=10, limit=1)
        return next(iter(reply.values()))

    assert "ok" in limit("5/s")
    try:
        answers = [each.get(timeout=20) for each in [text(client, f"slow-{n}").delay() for n in range(8)]]
    finally:
        assert "ok" in limit("0")
    written = sorted(int(answer["entry_id"].split("-")[0]) for answer in answers)
    assert written[-1] - written[0] >= 1200, "eight of them at five a second"


def test_canvas(client):
    signature = client.app.signature
    joined = chord((text(client, f"chord-{n}") for n in range(4)), signature("tests.tasks.total_dim")).delay()
    assert joined.get(timeout=20) == 4 * 768
    both = group(text(client, "g1"), text(client, "g2")).delay().get(timeout=20)
    assert [each["task_id"] for each in both] == ["g1", "g2"]
    after = chain(text(client, "first"), text(client, "second").set(immutable=True)).delay()
    assert after.get(timeout=20)["task_id"] == "second"
    assert after.parent.get(timeout=20)["task_id"] == "first"


@pytest.mark.parametrize("kind", ["map", "starmap", "chunks"])
def test_one_task_over_many(client, kind):
    tasks = [{"task_id": f"{kind}-{n}", "text": f"{kind} {n}"} for n in range(4)]
    embed = client.app.signature(PREPARE_TEXT, app=client.app)
    if kind == "map":
        receipts = xmap(embed, tasks, app=client.app).apply_async().get(timeout=20)
    elif kind == "starmap":
        receipts = xstarmap(embed, [(task,) for task in tasks], app=client.app).apply_async().get(timeout=20)
    else:
        halves = chunks(embed, iter([(task,) for task in tasks]), 2, app=client.app).apply_async().get(timeout=20)
        receipts = [receipt for half in halves for receipt in half]
    assert [receipt["task_id"] for receipt in receipts] == [task["task_id"] for task in tasks]
    client.answers([task["task_id"] for task in tasks])


def test_time_limits_set_while_it_runs(client):
    def limit(soft, hard):
        (reply,) = client.app.control.time_limit(PREPARE_TEXT, soft, hard, reply=True, timeout=10, limit=1)
        return next(iter(reply.values()))

    assert "ok" in limit(10, 20)
    assert text(client, "within").delay().get(timeout=20)["status"] == "ok"
    assert "ok" in limit(None, None)


def test_events_switched_off_and_on(client):
    for command in ("disable_events", "enable_events"):
        (reply,) = getattr(client.app.control, command)(reply=True, timeout=10, limit=1)
        assert "ok" in next(iter(reply.values()))


def test_a_task_that_nobody_registered_is_answered(client):
    with pytest.raises(NotRegistered):
        client.send("no.such.task").get(timeout=20)
    wait_for(lambda: client.redis.hlen("unacked") == 0, 10, "it to be acknowledged")
    assert text(client, "after").delay().get(timeout=20)["status"] == "ok"


def test_link_and_link_error(client):
    def note(word):
        return client.app.signature("tests.tasks.note", args=(word,), immutable=True)

    text(client, "linked").apply_async(link=note("went well"))
    client.app.signature(PREPARE_TEXT, args=({"task_id": "broken"},)).apply_async(link_error=note("went wrong"))
    wait_for(lambda: client.redis.smembers("noted") == {b"went well", b"went wrong"}, 20, "both callbacks")


def test_an_ignored_result_is_not_stored_but_written(client):
    ignored = text(client, "ignored").apply_async(ignore_result=True)
    client.answers(["ignored"])
    assert not client.redis.exists(f"celery-task-meta-{ignored.id}")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("registered", PREPARE_IMAGE),
        ("active_queues", "'name': 'embedding'"),
        ("conf", "'task_default_queue': 'embedding'"),
        ("report", "software ->"),
        ("ping", "'ok': 'pong'"),
        ("stats", "gpubatch"),
        ("reserved", "[]"),
        ("revoked", "["),
        ("active", "[]"),
    ],
)
def test_inspect(inspect, command, shown):
    assert shown in str(inspect(command))


def test_queues_added_and_cancelled(client):
    client.app.control.add_consumer("extra", reply=True, timeout=10, limit=1)
    assert text(client, "extra").apply_async(queue="extra").get(timeout=20)["status"] == "ok"
    (reply,) = client.app.control.cancel_consumer("extra", reply=True, timeout=10, limit=1)
    assert "no longer consuming" in str(reply)


def test_query_task_while_it_waits_for_its_time(client, inspect):
    # The last of the shared worker's tests: a revoked task stays unacknowledged until its time has come.
    later = text(client, "asked for").apply_async(countdown=30)
    wait_for(lambda: inspect("scheduled"), 10, "it to be scheduled")
    assert inspect("query_task", later.id)[later.id][0] == "scheduled"
    client.app.control.revoke(later.id)


def test_autoscaling(make_worker, redis_url):
    with make_worker(args=("--autoscale=6,2",)) as worker:
        worker.wait_ready()
        client = Client(redis_url)
        # A worker subscribes to commands a moment after it says that it is ready, and none is kept for it.
        wait_for(lambda: client.app.control.ping(timeout=1), 30, "the worker to hear commands")
        (stats,) = client.app.control.inspect(timeout=10, limit=1).stats().values()
        assert (stats["autoscaler"]["min"], stats["autoscaler"]["max"]) == (2, 6)
        assert client.text("x").get(timeout=20)["status"] == "ok"
        client.app.control.autoscale(max=3, min=1, reply=True, timeout=10, limit=1)
        (stats,) = client.app.control.inspect(timeout=10, limit=1).stats().values()
        assert (stats["autoscaler"]["min"], stats["autoscaler"]["max"]) == (1, 3)
