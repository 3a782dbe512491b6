"""Three workers share a task stream: every task is answered once, whatever happens to them and to the server.

And whatever single entries do to them: take long, come twice, or be no task at all.
"""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING, cast

import pytest

from tests.servers import ServerKind, available_kinds
from tests.soak import PATIENCE_S, SEED, TASKS, names
from tests.soak.fleet import CLAIM_IDLE_MS, GROUP, HANDS, STALL_S, TASK_STREAM, VISIBILITY_S, Fleet
from tests.soak.malformed import NOT_A_STREAM, malformed
from tests.soak.tally import Outcomes, Row, report
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = max(250, TASKS // 15)
"""About how many answers lie between two kills."""
ROUNDS = max(1, TASKS // 4000)
CUTS_AFTER = 200_000, 20_000
"""Bytes to the server, and from it: most of it vectors, and ids."""


@pytest.fixture(scope="module", params=available_kinds())
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three workers on a server of each kind in turn, for all the tests of a module."""
    with Fleet(cast("ServerKind", request.param), tmp_path_factory.mktemp("fleet"), seed=SEED) as fleet:
        yield fleet


@pytest.fixture
def fleet(workers: Fleet) -> Iterator[Fleet]:
    """The same workers, all of them ready, on empty streams."""
    print(f"seed {SEED}")
    yield workers.ready()
    for worker in workers.workers:
        print(f"--- {worker.log_file}\n{worker.log_tail()}")


def test_three_workers_share_a_stream(fleet):
    ids, began = names("share"), time.monotonic()
    fleet.add(ids)
    fleet.wait_for_answers(TASKS)
    answers = fleet.check(ids, "three workers", began)
    assert set(answers.workers) == {"worker-1", "worker-2", "worker-3"}
    assert min(answers.workers.values()) > TASKS / 10


def test_workers_are_killed_one_after_another(fleet):
    ids, began, draw, kills = names("kill"), time.monotonic(), random.Random(SEED), 0
    fleet.add(ids)
    while fleet.answered() < TASKS - PART:
        fleet.wait_for_answers(fleet.answered() + PART - 50)
        victim = draw.choice([worker for worker in fleet.workers if " ready." in worker.log])
        fleet.restart(victim)
        kills += 1
        wait_for(lambda: any(" ready." in worker.log for worker in fleet.workers), PATIENCE_S, "a worker")
    fleet.wait_for_answers(TASKS)
    fleet.check(ids, "workers killed", began, f"{kills} kill -9")
    assert kills >= 3


def test_a_frozen_worker_wakes_up_too_late(fleet):
    ids, began, frozen = names("freeze"), time.monotonic(), fleet.workers[0]
    fleet.add(ids)
    fleet.wait_for_answers(TASKS // 4)
    frozen.send_signal(signal.SIGSTOP)
    owned = fleet.owned("worker-1")
    fleet.wait_for_answers(TASKS)
    frozen.send_signal(signal.SIGCONT)

    def works_again():
        # Its hands are full: it reads only after it has tried to answer what the others have answered meanwhile.
        ids.append(f"late-{len(ids)}")
        fleet.add(ids[-1:])
        fleet.wait_for_answers(len(ids))
        ((_, newest),) = fleet.redis.xrevrange("embedding_results", count=1)
        return newest["worker"] == "worker-1"

    wait_for(works_again, PATIENCE_S, "the frozen worker to answer again", interval=0)
    fleet.check(ids, "worker frozen", began, f"SIGSTOP with {owned} entries")
    assert owned >= HANDS // 4, "it was frozen with something in its hands"


def test_the_server_stops_dies_and_hangs_up(fleet):
    ids, began, cuts = names("server"), time.monotonic(), fleet.proxy.cuts
    fleet.cut(*CUTS_AFTER)
    fleet.add(ids)
    for number in range(2 * ROUNDS):
        fleet.wait_for_answers(min(fleet.answered() + TASKS // (4 * ROUNDS), TASKS))
        (crash if number % 2 else pause)(fleet.server)
    fleet.wait_for_answers(TASKS)
    cuts = fleet.proxy.cuts - cuts
    fleet.calm()
    fleet.check(
        ids, "server stopped, killed, cut off", began, f"{ROUNDS} SIGSTOP of 5 s, {ROUNDS} kill -9, {cuts} cuts"
    )
    assert cuts > TASKS / 100
    assert all(worker.running for worker in fleet.workers)


def pause(server):
    server.pause()
    time.sleep(5)
    server.resume()


def crash(server):
    server.kill()
    server.start()


def test_everything_is_flushed(fleet):
    pids, began = [worker.pid for worker in fleet.workers], time.monotonic()
    alarms = fleet.logged("is out of order")
    fleet.add(names("before"))
    fleet.wait_for_answers(TASKS // 4)
    fleet.redis.flushall()
    assert fleet.answered() < TASKS // 4, "the flush came in the middle"
    ids = names("after")
    fleet.add(ids)
    fleet.wait_for_answers(TASKS)
    fleet.check(ids, "everything flushed", began, "FLUSHALL")
    assert [worker.pid for worker in fleet.workers if worker.running] == pids
    assert fleet.logged("is out of order") - alarms <= 2 * len(pids), "each looks at most twice before it goes on"


def test_a_slow_worker_is_not_robbed(fleet):
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


def test_a_redelivered_celery_task_is_answered_once(fleet):
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


def test_malformed_entries_are_answered_once(fleet):
    pids, began, count = [worker.pid for worker in fleet.workers], time.monotonic(), TASKS // 2
    good = names("good", count)
    fleet.redis.set(NOT_A_STREAM, "text")
    ids = []
    for number, fields in enumerate(malformed(SEED, count)):
        ids.append(fleet.redis.xadd(TASK_STREAM, fields))
        fleet.add([good[number]])
    wait_for(lambda: fleet.left() == 0, PATIENCE_S, "an empty task stream")
    answers = Outcomes.read(fleet.redis)
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
