from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError

from legit_embedding.pool import greenlets
from legit_embedding.pool.greenlets import GreenletThread, together
from legit_embedding.pool.stored_results import store_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from celery.backends.redis import RedisBackend

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
"""Celery's own way."""


@pytest.fixture
def thread() -> Iterator[GreenletThread]:
    thread = GreenletThread("trace-test")
    yield thread
    thread.stop(10)
    assert not thread.is_alive()


@pytest.fixture
def backend(redis_url: str) -> RedisBackend:
    backend: RedisBackend = Celery("results", backend=redis_url, set_as_current=False).backend
    store_together(backend)
    return backend


def in_one_turn(thread: GreenletThread, calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Begin all calls before the thread starts; returns what each gave, or raised."""
    futures: dict[str, Future[Any]] = {name: Future() for name in calls}

    def run(name: str) -> None:
        try:
            futures[name].set_result(calls[name]())
        except Exception as error:  # noqa: BLE001
            futures[name].set_exception(error)

    for name in calls:
        thread.begin(partial(run, name), owner="a task")
    thread.start()
    return {name: future.exception(10) or future.result() for name, future in futures.items()}


def commands(backend: RedisBackend) -> dict[str, int]:
    """The calls of each command since the start."""
    stats = backend.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}


def test_the_results_of_one_turn_share_their_round_trips(thread: GreenletThread, backend: RedisBackend) -> None:
    before = commands(backend)
    store = {f"t{number}": partial(backend.store_result, f"t{number}", number, "SUCCESS") for number in range(50)}
    assert in_one_turn(thread, store) == {f"t{number}": number for number in range(50)}
    after = commands(backend)
    assert {name: after.get(name, 0) - before.get(name, 0) for name in ("mget", "exec", "set", "publish", "get")} == {
        "mget": 1,
        "exec": 1,
        "set": 50,
        "publish": 50,
        "get": 0,
    }
    assert backend.get_result("t7") == 7
    assert 0 < backend.client.ttl(backend.get_key_for_task("t7")) <= backend.expires


def test_an_earlier_success_is_kept(thread: GreenletThread, backend: RedisBackend) -> None:
    backend.store_result("a", "first", "SUCCESS")
    in_one_turn(thread, {name: partial(backend.store_result, name, "second", "SUCCESS") for name in "ab"})
    assert (backend.get_result("a"), backend.get_result("b")) == ("first", "second")


def test_failures_that_never_expire_do_not(thread: GreenletThread, backend: RedisBackend) -> None:
    backend.failure_expires = 0
    in_one_turn(thread, {"a": partial(backend.store_result, "a", ValueError("no"), "FAILURE")})
    assert backend.client.ttl(backend.get_key_for_task("a")) == -1


def test_one_refused_result_costs_only_itself(thread: GreenletThread, backend: RedisBackend) -> None:
    writes = {"good": partial(backend._set, "k1", "v1"), "bad": partial(backend._set, "k2", object())}
    outcome = in_one_turn(thread, writes)
    assert outcome["good"] is None
    assert isinstance(outcome["bad"], DataError)
    assert backend.client.mget("k1", "k2") == [b"v1", None]


def test_a_lost_server_is_each_tasks_own_error(thread: GreenletThread, backend: RedisBackend) -> None:
    backend.client.connection_pool.disconnect()
    backend.client.connection_pool.connection_kwargs["port"] = 1
    outcome = in_one_turn(thread, {name: partial(backend._set, name, "v") for name in "ab"})
    assert [type(error) for error in outcome.values()] == [RedisConnectionError] * 2


def test_outside_of_tasks_the_backend_is_celerys_own(backend: RedisBackend) -> None:
    before = commands(backend)
    backend.store_result("a", 1, "SUCCESS")
    after = commands(backend)
    changed = {name: after.get(name, 0) - before.get(name, 0) for name in ("get", "mget", "setex", "set")}
    assert changed == {"get": 1, "mget": 0, "setex": 1, "set": 0}


def test_a_backend_that_writes_otherwise_is_left_alone() -> None:
    from celery.backends.redis import RedisBackend

    class Own(RedisBackend):
        def _set(self, key: str, value: str, expires: int | None = None) -> None: ...

    own = Own(app=Celery("own", set_as_current=False), url="redis://localhost")
    store_together(own)
    assert "_set" not in vars(own)


def test_calls_are_made_before_a_busy_thread_has_nothing_else_to_do(
    thread: GreenletThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greenlets, "MOST_TOGETHER", 3)
    sizes: list[int] = []

    def call(items: Any) -> list[Any]:
        sizes.append(len(items))
        return list(items)

    calls = {str(number): partial(together, call, number) for number in range(7)}
    assert in_one_turn(thread, calls) == {str(number): number for number in range(7)}
    assert sizes == [3, 3, 1]


def test_stopping_makes_the_last_calls(thread: GreenletThread) -> None:
    done = threading.Event()

    def run() -> None:
        together(list, 1)
        together(list, 2)
        done.set()

    thread.begin(run)
    thread._inbox.put(None)
    thread.start()
    assert done.wait(10)
