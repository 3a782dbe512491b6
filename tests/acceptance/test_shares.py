"""Workers hold seconds of work, so that none of them hoards what the others could do."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.acceptance.test_streams import add, check_once, wait_for_empty
from tests.clients import PREPARE_TEXT
from tests.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients import Client
    from tests.workers import Worker

WORKERS, TASKS = 3, 3000
DEVICE = {"options": {"batch_s": 0.1}, "max_batch": 16}
"""160 items per second and worker, whatever the cores do: the time is slept away."""
SLOW = {"models": {"slow": NULL_MODELS["null-text"] | DEVICE}}


def shares(client: Client) -> Counter[str]:
    return Counter(entry["worker"] for entry in client.entries())


def start(stack: ExitStack, make_worker: Callable[..., Worker]) -> None:
    made = [make_worker(SLOW, env=TEST_TASKS | {"LEGIT_WORKER_ID": f"w{number}"}) for number in range(WORKERS)]
    workers = [stack.enter_context(worker) for worker in made]
    for worker in workers:
        worker.wait_ready()


def consuming(client: Client, command: str) -> None:
    """Let all the workers begin or stop to take from the queue, as Celery's remote control does."""
    # A worker that is ready may not listen yet; to those that do, saying it again changes nothing.
    send = getattr(client.app.control, command)
    wait_for(
        lambda: len(send("embedding", reply=True, timeout=5, limit=WORKERS)) == WORKERS, 60, f"{command} of all workers"
    )


def check_shares(client: Client) -> None:
    found: Any = shares(client)
    fair = TASKS / WORKERS
    assert len(found) == WORKERS, found
    assert all(share == pytest.approx(fair, rel=0.2) for share in found.values()), found


def test_three_workers_share_a_backlog_of_the_stream(make_worker: Callable[..., Worker], client: Client) -> None:
    with ExitStack() as stack:
        start(stack, make_worker)
        ids = add(client, TASKS)
        wait_for_empty(client)
    check_once(client, ids)
    check_shares(client)


def test_three_workers_share_a_backlog_of_a_queue(make_worker: Callable[..., Worker], client: Client) -> None:
    with ExitStack() as stack:
        start(stack, make_worker)
        # Sent one by one to workers that are faster than the producer, they would be no backlog to share.
        consuming(client, "cancel_consumer")
        ids = [f"q{number}" for number in range(TASKS)]
        client.send_all((PREPARE_TEXT, {"task_id": task_id, "text": task_id}) for task_id in ids)
        consuming(client, "add_consumer")
        wait_for(lambda: client.redis.xlen("embedding_results") == TASKS, 120, "all the answers")
    check_once(client, ids)
    check_shares(client)
