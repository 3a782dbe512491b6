"""The page's routes over real sockets; `tests/acceptance/test_page.py` looks at it in a browser."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from legit_embedding.config import Settings
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.sources.http.broadcast import MOST_LISTENERS
from legit_embedding.sources.http.flow import Flow
from legit_embedding.telemetry.health import state_of
from legit_embedding.wire.result import Origin
from tests.door import MODELS, Served, slow
from tests.told import OnOutcome, nothing
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = {"Authorization": "Bearer one"}
FAR_PAST = 1
NOBODY = OnOutcome(nothing)


@contextmanager
def events(served: Served, **headers: str) -> Iterator[Iterator[Any]]:
    """The figures that a listener receives, without the history before them."""
    with served.client.stream("GET", "/events", headers=headers) as response:
        response.raise_for_status()
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = iter(response.iter_text())

        def each() -> Iterator[Any]:
            rest = ""
            for text in blocks:
                *whole, rest = (rest + text).split("\n\n")
                yield from (json.loads(block[6:]) for block in whole if block.startswith("data: "))

        yield each()


def listeners(served: Served) -> int:
    return served.source._broadcast.listeners


def test_the_files_load_nothing_from_elsewhere_and_hold_no_inline_code(serve: Callable[..., Served]) -> None:
    client = serve(token="one").client
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    files = [name for name in named if name.startswith("page/")]
    assert {name.rpartition(".")[2] for name in files} == {"css", "js", "svg"}
    assert set(named) - set(files) == {"docs", "health"}
    assert not re.search(r"<style|style=|<script>|\son\w+=", page.text)
    for path in ["/", *(f"/{name}" for name in files)]:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page/", "/page/none.js"):
        assert client.get(path).status_code == 404
    assert client.post("/").status_code == 405


def test_an_event_holds_what_flows(serve: Callable[..., Served]) -> None:
    served = serve()
    with events(served) as figures:
        assert next(figures)["items_per_s"] is None
        served.embed(texts=["a", "b"])
        served.pipeline.submit({"task_id": "late", "text": "a", "deadline": FAR_PAST}, Origin("http", "1"), NOBODY)
        seen = next(each for each in figures if each["embedded"] == 2 and each["failed"])
    assert (seen["worker"], seen["state"], seen["embeds"], seen["group"]) == ("pod", "running", True, None)
    assert seen["stages"] == {"queued": None, "prep": 0, "waiting": 0, "device": 0, "writing": 0}
    assert seen["items_per_s"] > 0
    words, pictures = seen["models"]
    assert (words["queue"], words["kind"], words["items"], pictures["items"]) == ("words", "text", 2, 0)
    assert seen["errors"] == [{"model": "words", "code": "expired", "count": 1}]
    [last] = seen["last_errors"]
    assert (last["task_id"], last["code"], last["detail"].split(":")[0]) == ("late", "expired", "deadline")


def test_the_stages_add_up_to_what_is_in_flight(serve: Callable[..., Served]) -> None:
    served = serve(slow(0.2))
    for number in range(30):
        task = {"task_id": str(number), "text": str(number)}
        served.pipeline.submit(task, Origin("http", str(number)), NOBODY)
    with events(served) as figures:
        seen = next(each for each in figures if each["stages"]["waiting"] and each["stages"]["device"])
    assert seen["oldest_s"] > 0
    assert seen["models"][0]["oldest_s"] == seen["oldest_s"]
    assert sum(items for items in seen["stages"].values() if items is not None) <= 30
    assert seen["stages"]["device"] < 30
    assert served.pipeline.drain(60)


def test_events_before_the_models_are_loaded(serve: Callable[..., Served]) -> None:
    with events(serve(start=False)) as figures:
        assert next(figures)["state"] == "starting"
        seen = next(figures)
    assert (seen["state"], [model["loaded"] for model in seen["models"]]) == ("starting", [False, False])


def test_events_need_the_token_as_embeddings_do(serve: Callable[..., Served]) -> None:
    guarded = serve(token="one", open_metrics=True)
    refused = guarded.client.get("/events")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    with events(guarded, **TOKEN) as figures:
        assert next(figures)["state"] == "running"


def test_details_of_errors_are_not_for_everybody(serve: Callable[..., Served]) -> None:
    open_ = serve(host="0.0.0.0", embed=False)
    open_.pipeline.submit({"task_id": "secret", "text": "a", "deadline": FAR_PAST}, Origin("http", "1"), NOBODY)
    with events(open_) as figures:
        seen = next(each for each in figures if each["failed"])
    assert seen["errors"] == [{"model": "words", "code": "expired", "count": 1}]
    assert (seen["last_errors"], seen["embeds"]) == ([], False)
    assert "secret" not in json.dumps(seen)


def test_listeners_leave_no_trace_and_are_bounded(serve: Callable[..., Served]) -> None:
    served = serve()
    with events(served) as figures:
        next(figures)
        assert listeners(served) == 1
    wait_for(lambda: listeners(served) == 0, 30, "the listener to be counted out")
    served.source._broadcast.listeners = MOST_LISTENERS
    refused = served.client.get("/events")
    assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
    assert refused.headers["Retry-After"]
    served.source._broadcast.listeners = 0


def test_a_stop_ends_open_streams(serve: Callable[..., Served], caplog: pytest.LogCaptureFixture) -> None:
    served = serve()
    with events(served) as figures:
        next(figures)
        served.pipeline.stop()
        assert not served.source.alive()
        list(figures)  # raises unless the stream has an orderly end
    assert "Cancel" not in caplog.text
    with pytest.raises(httpx.ConnectError):
        served.client.get("/events")


def test_the_milliseconds_of_each_stage_come_with_the_vectors(serve: Callable[..., Served]) -> None:
    served = serve(slow(0.05))
    for answer in (served.embed(texts=["a", "b"]), served.openai(input=["a", "b"])):
        timing = answer.headers["Server-Timing"]
        stages = dict(re.findall(r"(\w+);dur=(\d+)", timing))
        assert re.fullmatch(r"prep;dur=\d+, wait;dur=\d+, device;dur=\d+", timing)
        assert int(stages["device"]) >= 50
        # The second of two texts waits for the first: the longest of each stage is shown.
        assert int(stages["wait"]) >= 50
    assert served.embed(texts=[]).headers["Server-Timing"] == "prep;dur=0, wait;dur=0, device;dur=0"


def test_a_rate_says_nothing_about_the_time_in_which_nobody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(MODELS, {}, start=True)
    try:
        flow = Flow(served.pipeline, lambda: state_of(served.pipeline.snapshot()), embeds=True, details=True)
        snapshot = served.pipeline.snapshot

        def rate(at: float) -> float | None:
            monkeypatch.setattr(served.pipeline, "snapshot", lambda: replace(snapshot(), at=at))
            return flow.look()["items_per_s"]

        assert rate(100) is None
        served.embed(texts=["a"] * 10)
        assert rate(101) == 10
        served.embed(texts=["a"] * 1000)
        assert rate(200) is None
        assert rate(201) == 0
        assert [value for _, value in flow.history()] == [10, 0]
    finally:
        served.close()


def test_the_group_is_read_beside_the_figures(redis_url: str) -> None:
    settings = Settings(device="cpu", models=MODELS, redis_url=redis_url)
    pipeline = Pipeline(settings, "pod", 1)
    pipeline.queues = ("embedding",)
    flow = Flow(pipeline, lambda: ("running", []), embeds=True, details=True)
    try:
        client = flow._group._client
        client.rpush("embedding", *range(7))
        client.hset("embedding:worker:other", mapping={"state": "running", "items_per_s": "3.5", "in_flight": "7"})
        client.zadd("embedding:workers", {"other": 1, "gone": 1})
        seen = wait_for(lambda: (figures := flow.look())["group"] and figures, 30, "the group to be read")
        assert seen["stages"]["queued"] == seen["group"]["waiting"] == 7
        assert seen["empty_in_s"] == 4.0
        assert [each["worker"] for each in seen["group"]["workers"]] == ["other"]
        assert seen["group"]["lost"] == ("gone",)
    finally:
        flow.close()
        pipeline.stop()


def test_a_redis_that_is_away_delays_no_event() -> None:
    settings = Settings(device="cpu", models=MODELS, redis_url="redis://127.0.0.1:1/0")
    pipeline = Pipeline(settings, "pod", 1)
    flow = Flow(pipeline, lambda: ("unhealthy", ["Redis cannot be reached"]), embeds=True, details=True)
    try:
        assert flow.look()["group"] is None
        seen = wait_for(lambda: (figures := flow.look())["group_problem"] and figures, 30, "the problem to be named")
        assert seen["group"] is None
    finally:
        flow.close()
        pipeline.stop()
