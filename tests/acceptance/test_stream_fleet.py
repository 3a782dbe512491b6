"""Three workers share a task stream: every task is answered once, whatever happens to them and to the server."""

from __future__ import annotations

import random
import signal
import time

from tests.soak import PATIENCE_S, SEED, TASKS, names
from tests.soak.fixtures import fleet, workers  # noqa: F401 - pytest finds them by their names
from tests.soak.fleet import HANDS
from tests.waiting import wait_for

PART = max(250, TASKS // 15)
"""About how many answers lie between two kills."""
ROUNDS = max(1, TASKS // 4000)
CUTS_AFTER = 200_000, 20_000
"""Bytes to the server, and from it: most of it vectors, and ids."""


def test_three_workers_share_a_stream(fleet):  # noqa: F811
    ids, began = names("share"), time.monotonic()
    fleet.add(ids)
    fleet.wait_for_answers(TASKS)
    answers = fleet.check(ids, "three workers", began)
    assert set(answers.workers) == {"worker-1", "worker-2", "worker-3"}
    assert min(answers.workers.values()) > TASKS / 10


def test_workers_are_killed_one_after_another(fleet):  # noqa: F811
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


def test_a_frozen_worker_wakes_up_too_late(fleet):  # noqa: F811
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


def test_the_server_stops_dies_and_hangs_up(fleet):  # noqa: F811
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


def test_everything_is_flushed(fleet):  # noqa: F811
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
