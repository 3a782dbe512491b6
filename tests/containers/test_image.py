"""The image, as pytest-celery's worker: read-only, without capabilities, as a user that it has never heard of."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.conftest import PREPARE_TEXT
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.result import AsyncResult
    from pytest_celery import CeleryTestSetup
    from redis import Redis

    from tests.containers.conftest import Worker

    Answers = Callable[[set[str]], list[dict[str, str]]]

pytestmark = pytest.mark.containers

CLAIM_IDLE_MS = 30_000
"""As in the settings of the tests' worker."""
GRACE_S = 10
"""What ``docker stop`` leaves before it kills."""


def send(setup: CeleryTestSetup, **task: Any) -> AsyncResult:
    return setup.app.send_task(PREPARE_TEXT, args=(task,))


def test_an_embedding_task_has_a_receipt_and_a_stream_entry(
    celery_setup: CeleryTestSetup, redis: Redis, answers: Answers
) -> None:
    receipt = send(celery_setup, task_id="1", text="a red bicycle", metadata={"sku": 7}).get(timeout=60)
    [entry] = answers({"1"})
    assert (receipt["status"], receipt["model"], receipt["dim"]) == ("ok", "minilm", 384)
    assert redis.xrange(receipt["stream"])[0] == (receipt["entry_id"], entry)
    assert (len(base64.b64decode(entry["embedding"])), json.loads(entry["metadata"])) == (4 * 384, {"sku": 7})


def test_an_ordinary_task_runs_beside_it(celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.app.send_task("shop.add", args=(2, 3)).get(timeout=60) == 5


def test_the_health_check_finds_its_own_worker_whatever_its_name(celery_setup: CeleryTestSetup) -> None:
    worker = celery_setup.worker.container
    check = worker.attrs["Config"]["Healthcheck"]["Test"]
    assert check == ["CMD", "legit-embedding", "health"], "in exec form: there is no shell to leave a process behind"

    def checked() -> bool:
        code, said = worker.exec_run(check[1:])
        return code == 0 and said.decode().startswith("gpu1@") and said.decode().rstrip().endswith(" is running")

    wait_for(checked, 60, "the health check to be green", interval=1)
    assert worker.exec_run(["id", "-u"])[1].strip() == b"12345"


def test_what_a_killed_worker_held_is_answered_once_by_the_next(
    celery_setup: CeleryTestSetup, redis: Redis, answers: Answers, request: pytest.FixtureRequest
) -> None:
    messages = {f"message-{number}" for number in range(100)}
    entries = {f"entry-{number}" for number in range(100)}
    for each in sorted(entries):
        redis.xadd("embedding_tasks", {"task_id": each, "text": each, "model": "slow"})
    for each in sorted(messages):
        send(celery_setup, task_id=each, text=each, model="slow")
    wait_for(lambda: redis.xlen("embedding_results") >= 20, 60, "some answers")
    celery_setup.worker.kill()
    assert redis.xlen("embedding_results") < 200, "the kill came too late to show anything"
    request.getfixturevalue("next_worker_container")
    counts = Counter(each["task_id"] for each in answers(messages | entries))
    assert set(counts.values()) == {1}
    wait_for(lambda: not left(redis), 60, "nothing to be left")


def test_the_worker_goes_on_when_the_broker_has_been_restarted(celery_setup: CeleryTestSetup, answers: Answers) -> None:
    assert send(celery_setup, task_id="before", text="one").get(timeout=60)["status"] == "ok"
    celery_setup.broker.restart()
    assert celery_setup.broker.container.client.xlen("embedding_results") == 1, "it keeps what it has confirmed"
    celery_setup.broker.container.client.xadd("embedding_tasks", {"task_id": "after", "text": "two"})
    send(celery_setup, task_id="after too", text="three")
    assert {each["status"] for each in answers({"before", "after", "after too"})} == {"ok"}


def test_a_loaded_worker_ends_in_time_and_leaves_nothing_in_its_hands(
    celery_setup: CeleryTestSetup, redis: Redis
) -> None:
    worker: Worker = celery_setup.worker.container
    # Each with a text of its own: the same one is computed once a batch.
    for number in range(3000):
        redis.xadd("embedding_tasks", {"task_id": f"entry-{number}", "text": f"entry {number}", "model": "slow"})
    for number in range(100):
        send(celery_setup, task_id=f"message-{number}", text=f"message {number}", model="slow")
    wait_for(lambda: redis.xlen("embedding_results") >= 20, 60, "some answers")
    began = time.monotonic()
    worker.kill(signal="SIGTERM")
    code = wait_for(lambda: None if (code := worker.exit_code) is None else str(code), 60, "its end", interval=0.1)
    assert code == "0"
    assert time.monotonic() - began < GRACE_S
    given_back = redis.xpending_range("embedding_tasks", "embedding_workers", "-", "+", 3000)
    # It holds seconds of work (engine.hold_s), so it may have finished all that it held.
    assert all(each["time_since_delivered"] >= CLAIM_IDLE_MS for each in given_back), "others may have them at once"
    assert redis.hlen("unacked") == 0
    answered = {fields["task_id"] for _, fields in redis.xrange("embedding_results")}
    assert redis.xlen("embedding_tasks") + redis.llen("embedding") == 3100 - len(answered)


def left(redis: Redis) -> int:
    """How many tasks wait or are in a worker's hands."""
    return redis.xlen("embedding_tasks") + redis.llen("embedding") + redis.hlen("unacked")
