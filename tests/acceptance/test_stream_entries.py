"""What single entries may do to the workers that share a stream: take long, come twice, or be no task at all."""

from __future__ import annotations

import time

from tests.soak import PATIENCE_S, SEED, TASKS, names
from tests.soak.fixtures import fleet, workers  # noqa: F401 - pytest finds them by their names
from tests.soak.fleet import CLAIM_IDLE_MS, GROUP, STALL_S, TASK_STREAM, VISIBILITY_S
from tests.soak.malformed import NOT_A_STREAM, malformed
from tests.soak.tally import Answers, Row, report
from tests.waiting import wait_for


def test_a_slow_worker_is_not_robbed(fleet):  # noqa: F811
    ids, began = names("slow", 3), time.monotonic()
    fleet.add(ids, model="stall", text="<stall>")
    owners: dict[str, set[tuple[str, int]]] = {}

    def watch():
        for row in fleet.redis.xpending_range(TASK_STREAM, GROUP, "-", "+", 10):
            owners.setdefault(row["message_id"], set()).add((row["consumer"], row["times_delivered"]))

    fleet.wait_for_answers(3, meanwhile=watch)
    assert time.monotonic() - began > STALL_S == 3 * CLAIM_IDLE_MS / 1000
    fleet.check(ids, "work of 3 claim_idle_ms", began)
    assert len(owners) == 3
    assert all(len(seen) == 1 and {times for _, times in seen} == {1} for seen in owners.values()), owners


def test_a_redelivered_celery_task_is_answered_once(fleet):  # noqa: F811
    began, each = time.monotonic(), "legit_embedding.preparation.prepare_text"
    ids = names("celery", 3)
    sent = [fleet.client.text("<stall>", model="stall", task_id=task_id) for task_id in ids]
    receipts = [result.get(timeout=60) for result in sent]
    assert {receipt["status"] for receipt in receipts} == {"ok"}

    def received():
        return [fleet.logged(f"{each}[{result.id}] received") for result in sent]

    wait_for(lambda: min(received()) > 1, 30, "a redelivery of each")
    wait_for(lambda: fleet.redis.hlen("unacked") == 0, 30, "everything to be acknowledged")
    fleet.check(ids, "Celery redelivery", began, f"visibility timeout {VISIBILITY_S} s, {sum(received()) - 3} repeats")


def test_malformed_entries_are_answered_once(fleet):  # noqa: F811
    pids, began, count = [worker.pid for worker in fleet.workers], time.monotonic(), TASKS // 2
    good = names("good", count)
    fleet.redis.set(NOT_A_STREAM, "text")
    ids = []
    for number, fields in enumerate(malformed(SEED, count)):
        ids.append(fleet.redis.xadd(TASK_STREAM, fields))
        fleet.add([good[number]])
    wait_for(lambda: fleet.left() == 0, PATIENCE_S, "an empty task stream")
    answers = Answers.read(fleet.redis)
    twice = {source: times for source, times in answers.sources.items() if times > 1}
    shares = dict(sorted(answers.workers.items()))
    seconds = time.monotonic() - began
    report(Row("malformed", fleet.name, 2 * count, len(answers.sources), len(twice), "", seconds, shares))
    assert not twice
    assert set(ids) < answers.sources.keys()
    assert set(good) < answers.ids.keys()
    assert len(answers.sources) == 2 * count
    assert answers.errors.keys() < set(ids), "the good ones are answered well"
    assert len(answers.errors) > count / 2, "most of the others are not"
    assert {"invalid_task", "reply_to_refused", "unknown_model", "fetch_refused"} <= set(answers.errors.values())
    assert [worker.pid for worker in fleet.workers if worker.running] == pids
