"""The HTTP door over real sockets, in front of a real pipeline without Redis."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from legit_embedding.errors import ConfigError
from legit_embedding.models.null import expected
from legit_embedding.sources.http import protocol
from legit_embedding.sources.http.bodies import EmbedBody
from legit_embedding.wire.result import Origin
from tests.door import DIM, MODELS, Served, slow
from tests.told import OnOutcome
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(MODELS, {}, start=True)
    yield served
    served.close()


def vectors(*contents: str | bytes) -> np.ndarray:
    return np.array([expected(content, DIM) for content in contents])


class TestEmbed:
    def test_texts_come_back_in_order(self, served: Served) -> None:
        answer = served.embed(texts=["b", "a", "", "b"])
        assert answer.status_code == 200
        body = answer.json()
        assert {key: body[key] for key in ("model", "dimension", "count")} == {
            "model": "words",
            "dimension": DIM,
            "count": 4,
        }
        np.testing.assert_allclose(body["dense_vecs"], vectors("b", "a", "", "b"), rtol=1e-6)

    def test_no_texts_are_no_vectors(self, served: Served) -> None:
        assert served.embed(texts=[]).json() == {"model": "words", "dimension": DIM, "count": 0, "dense_vecs": []}

    def test_images_come_as_data_urls(self, served: Served) -> None:
        url = "data:image/png;base64," + base64.b64encode(b"picture").decode()
        body = served.embed(images=[url]).json()
        assert body["model"] == "pictures"
        np.testing.assert_allclose(body["dense_vecs"], vectors(b"picture"), rtol=1e-6)

    @pytest.mark.parametrize(
        ("body", "status", "names"),
        [
            ({"texts": "a"}, 422, "texts"),
            ({"texts": ["a", 1]}, 422, "texts[1]"),
            ({"texts": None}, 422, "texts"),
            ({}, 422, "texts"),
            ({"texts": ["a"], "model": "other"}, 404, "'other'"),
            ({"texts": ["a"], "model": 1}, 422, "model"),
            ({"texts": ["a"], "dimensions": 5}, 422, "dimensions"),
            ({"texts": ["a"], "dimensions": "5"}, 422, "dimensions"),
            ({"texts": ["a"], "images": ["data:;base64,AA=="]}, 422, "model"),
            ({"images": ["data:image/png,raw"]}, 422, "images[0]"),
            ({"images": ["data:image/png;base64,%"]}, 422, "images[0]"),
            ({"images": ["http://127.0.0.1/a.png"]}, 422, "images[0]"),
            ({"images": ["file:///etc/passwd"]}, 422, "images[0]"),
            ({"texts": ["a"] * 2049}, 413, "http.max_items"),
            ({"texts": ["a" * 1_000_001]}, 413, "texts[0]"),
            ([], 422, "body"),
        ],
    )
    def test_what_does_not_fit_is_named(self, served: Served, body: Any, status: int, names: str) -> None:
        answer = served.client.post("/embed", json=body)
        assert (answer.status_code, names in answer.json()["detail"]) == (status, True), answer.text

    def test_a_body_that_is_no_json(self, served: Served) -> None:
        headers = {"Content-Type": "application/json"}
        assert served.client.post("/embed", content=b"{", headers=headers).status_code == 400
        assert served.client.post("/embed", content=b"{}").status_code == 415

    def test_a_body_too_large_is_answered_although_it_is_still_being_sent(self, serve: Callable[..., Served]) -> None:
        small = serve(max_body_bytes=1000)
        with small.connection() as sending:  # httpx would read the answer even if it could not send all
            sending.sendall(head(50_000_000) + b"a" * 50_000_000)
            assert sending.recv(100).startswith(b"HTTP/1.1 413 ")
        chunks = (b"a" * 10_000 for _ in range(100))
        answer = small.client.post("/embed", content=chunks, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert small.embed(texts=["a"]).status_code == 200
        assert small.source.held() == (0, 0)


class TestOpenAI:
    def test_both_encodings_hold_the_same_vectors(self, served: Served) -> None:
        floats = served.openai(input=["a", "b"], model="words").json()
        coded = served.openai(input=["a", "b"], encoding_format="base64").json()
        assert [each["index"] for each in floats["data"]] == [0, 1]
        assert (floats["object"], floats["model"], floats["data"][0]["object"]) == ("list", "words", "embedding")
        decoded = [struct.unpack(f"<{DIM}f", base64.b64decode(each["embedding"])) for each in coded["data"]]
        np.testing.assert_array_equal(np.float32([each["embedding"] for each in floats["data"]]), np.float32(decoded))
        np.testing.assert_allclose(decoded, vectors("a", "b"), rtol=1e-6)
        assert floats["usage"] == {"prompt_tokens": 2, "total_tokens": 2}

    def test_a_string_and_token_ids(self, served: Served) -> None:
        def embedded(content: Any) -> list[list[float]]:
            return [each["embedding"] for each in served.openai(input=content).json()["data"]]

        assert embedded("a") == embedded(["a"])
        assert len(embedded([1, 2])) == 1
        assert embedded([[1, 2], [3]]) == embedded([1, 2]) + embedded([3])
        assert embedded([]) == []

    def test_images_in_the_shapes_of_vllm_and_infinity(self, served: Served) -> None:
        url = "data:image/png;base64," + base64.b64encode(b"picture").decode()
        part = {"type": "image_url", "image_url": {"url": url}}
        for body in (
            {"messages": [{"role": "user", "content": [part]}]},
            {"input": [url], "modality": "image"},
            {"input": url, "modality": "image"},
        ):
            answer = served.openai(**body).json()
            np.testing.assert_allclose(answer["data"][0]["embedding"], vectors(b"picture")[0], rtol=1e-6)
            assert answer["usage"]["prompt_tokens"] == 0

    @pytest.mark.parametrize(
        ("body", "status", "param", "code"),
        [
            ({"input": 1}, 422, "input", "invalid_task"),
            ({"input": ["a", 1]}, 422, "input", "invalid_task"),
            ({"input": [[]]}, 422, "input[0]", "invalid_task"),
            ({"input": [2**70]}, 422, "input", "invalid_task"),
            ({}, 422, "input", "invalid_task"),
            ({"input": "a", "encoding_format": "hex"}, 422, "encoding_format", "invalid_task"),
            ({"input": "a", "model": "gpt"}, 404, "model", "model_not_found"),
            ({"input": "not a URL", "modality": "image"}, 422, "input", "fetch_refused"),
            ({"messages": [{"content": []}]}, 422, "messages", "invalid_task"),
        ],
    )
    def test_errors_have_openais_shape(
        self, served: Served, body: dict[str, Any], status: int, param: str, code: str
    ) -> None:
        answer = served.openai(**body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
        assert error["type"] == "invalid_request_error"
        assert error["message"]

    def test_the_models(self, served: Served) -> None:
        listed = served.client.get("/v1/models").json()
        assert [each["id"] for each in listed["data"]] == ["words", "pictures"]
        assert served.client.get("/v1/models/words").json() == listed["data"][0]
        assert served.client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"


class TestProbes:
    def test_health_liveness_and_metrics(self, served: Served) -> None:
        health = served.client.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["dimension"]) == (200, "ok", DIM)
        assert served.client.get("/live").status_code == 200
        assert "legit_healthy" in served.client.get("/metrics").text
        assert served.client.get("/nothing").status_code == 404
        assert served.client.get("/v1/nothing").json()["error"]["code"] == "not_found"
        assert served.client.get("/embed").status_code == 405

    def test_before_the_models_are_loaded(self, serve: Callable[..., Served]) -> None:
        starting = serve(start=False)
        assert starting.client.get("/health").json()["status"] == "starting"
        assert starting.client.get("/live").status_code == 200
        answer = starting.embed(texts=["a"])
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")

    def test_the_description_holds_the_routes_and_the_page_loads_nothing(self, served: Served) -> None:
        described = served.client.get("/openapi.json").json()
        routed = {getattr(route, "path", "") for route in served.source.app.routes}
        shown = {path.replace("{model}", "{model:path}") for path in described["paths"]}
        assert routed - shown == {"/", "/page", "/events", "/metrics", "/openapi.json", "/docs"}
        assert shown <= routed
        schemas = described["components"]["schemas"]
        assert set(schemas["EmbedBody"]["properties"]) == set(EmbedBody.model_fields)
        page = served.client.get("/docs")
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        [style] = re.findall("<style>(.*)</style>", page.text)
        assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
        assert not re.search("<script|<link|<img|src=|url\\(", page.text)


class TestTraffic:
    def test_answers_are_counted_by_route_and_status(self, serve: Callable[..., Served]) -> None:
        served = serve()
        served.embed(texts=["a", "b"])
        served.embed(texts="a")
        served.client.get("/v1/models/words")
        served.client.get("/made-up")
        served.client.get("/embed")
        counted = sample(served, "legit_http_requests_total")
        assert counted == {
            ("200", "/embed"): 1,
            ("422", "/embed"): 1,
            ("405", "/embed"): 1,
            ("200", "/v1/models/{model:path}"): 1,
            ("404", "other"): 1,
        }
        seconds = sample(served, "legit_http_request_seconds_count")
        assert (seconds["/embed",], seconds["other",]) == (3, 1)
        assert set(sample(served, "legit_http_refused_total").values()) == {0}

    def test_what_is_in_flight_and_what_is_refused(self, serve: Callable[..., Served]) -> None:
        busy = serve(slow(0.2), max_items=4, max_in_flight=4, timeout_s=10)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(busy.embed, texts=["a"] * 4)
            wait_for(lambda: busy.source.held()[0] == 4, 20, "the first request's items")
            assert sample(busy, "legit_http_in_flight_items") == {(): 4}
            assert sample(busy, "legit_http_in_flight_requests") == {(): 2}, "the embedding and the scrape"
            assert busy.embed(texts=["b"]).status_code == 503
            first.result()
        assert sample(busy, "legit_http_in_flight_items") == {(): 0}
        assert sample(busy, "legit_http_in_flight_requests") == {(): 1}
        assert sample(busy, "legit_http_refused_total")["in_flight",] == 1

    def test_surplus_connections_and_an_early_request_have_their_causes(self, serve: Callable[..., Served]) -> None:
        early = serve(start=False)
        assert early.embed(texts=["a"]).status_code == 503
        assert refusals(early) == {"starting": 1}
        busy = serve(slow(0.3), max_connections=1)
        with busy.connection() as held:
            body = json.dumps({"texts": ["a"] * 10}).encode()
            held.sendall(head(len(body)) + body)
            wait_for(lambda: busy.source.held()[0], 20, "the items")
            with busy.connection() as surplus:
                surplus.sendall(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
                assert surplus.recv(1000).startswith(b"HTTP/1.1 503")
            assert held.recv(1000).startswith(b"HTTP/1.1 200"), "what is served is not closed"
        assert refusals(busy) == {"connections": 1}


def refusals(served: Served) -> dict[str, float]:
    return {cause: count for (cause,), count in sample(served, "legit_http_refused_total").items() if count}


def sample(served: Served, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels, without the worker's, in alphabetical order."""
    families = text_string_to_metric_families(served.client.get("/metrics").text)
    samples = [each for family in families for each in family.samples if each.name == name]
    return {tuple(value for key, value in each.labels.items() if key != "worker"): each.value for each in samples}


class TestTokens:
    def test_each_token_opens_and_nothing_else_does(self, serve: Callable[..., Served], tmp_path: Path) -> None:
        file = tmp_path / "tokens"
        file.write_text("# for the shop\nthree\n\n")
        guarded = serve(token="one", tokens=["two"], token_file=str(file))

        def status(token: str | None, path: str = "/v1/models") -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return guarded.client.get(path, headers=headers).status_code

        assert [status(token) for token in ("one", "two", "three")] == [200] * 3
        assert [status(token) for token in (None, "four", "on", "# for the shop")] == [401] * 4
        assert status(None, "/metrics") == 401
        assert [status(None, path) for path in ("/health", "/live")] == [200, 200]
        refused = guarded.embed(texts=["a"])
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert guarded.openai(input="a").json()["error"]["type"] == "authentication_error"

    def test_metrics_may_be_open(self, serve: Callable[..., Served]) -> None:
        assert serve(token="one", open_metrics=True).client.get("/metrics").status_code == 200

    def test_other_hosts_need_a_token(self, serve: Callable[..., Served], tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^http\.host: 0\.0\.0\.0 is open to other hosts"):
            serve(host="0.0.0.0")
        with pytest.raises(ConfigError, match=r"^http\.token_file: .* cannot be read"):
            serve(token_file=str(tmp_path / "absent"))
        assert serve(host="0.0.0.0", token="one").client.get("/health").status_code == 200
        telemetry = serve(host="0.0.0.0", embed=False)
        assert telemetry.client.get("/metrics").status_code == 200
        assert telemetry.embed(texts=["a"]).status_code == 404


class TestBounds:
    def test_items_beyond_what_may_be_in_progress_are_refused_and_come_later(
        self, serve: Callable[..., Served]
    ) -> None:
        busy = serve(slow(0.2), max_items=4, max_in_flight=4)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(busy.embed, texts=["a"] * 4)
            wait_for(lambda: busy.source.held()[0] == 4, 20, "the first request's items")
            refused = busy.embed(texts=["b"])
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert busy.openai(input="b").json()["error"]["code"] == "overloaded"
            assert first.result().status_code == 200
        assert busy.embed(texts=["b"]).status_code == 200
        assert busy.source.held() == (0, 0)

    def test_a_client_that_leaves_frees_its_items(self, serve: Callable[..., Served]) -> None:
        busy = serve(slow(0.2))
        body = json.dumps({"texts": ["a"] * 1000}).encode()
        with busy.connection() as leaving:
            leaving.sendall(head(len(body)) + body)
            wait_for(lambda: busy.source.held()[0] == 1000, 20, "the items")
        wait_for(lambda: busy.source.held() == (0, 0), 20, "the items to be free, long before all are embedded")
        assert busy.embed(texts=["b"]).status_code == 200

    def test_a_client_that_leaves_while_it_sends(self, serve: Callable[..., Served]) -> None:
        served = serve()
        with served.connection() as leaving:
            leaving.sendall(head(100_000) + b"x" * 50_000)
            wait_for(lambda: served.source.held()[1] >= 50_000, 20, "the bytes")
        wait_for(lambda: served.source.held() == (0, 0), 20, "the bytes to be free")

    def test_a_request_that_takes_too_long(self, serve: Callable[..., Served]) -> None:
        hurried = serve(slow(0.2), timeout_s=0.5)
        answer = hurried.embed(texts=["a"] * 100)
        assert (answer.status_code, "http.timeout_s" in answer.text) == (503, True)
        with hurried.connection() as dawdling:
            dawdling.sendall(head(1000) + b"{")
            assert dawdling.recv(100).startswith(b"HTTP/1.1 408 ")
        wait_for(lambda: hurried.source.held() == (0, 0), 20, "everything to be free")

    def test_an_item_past_its_deadline_is_not_embedded(self, serve: Callable[..., Served]) -> None:
        busy = serve(slow(0.3))

        def status(header: str, texts: int = 1) -> int:
            headers = {"X-Request-Deadline-Ms": header}
            return busy.client.post("/embed", json={"texts": ["a"] * texts}, headers=headers).status_code

        now = int(time.time() * 1000)
        assert status(str(now + 600_000)) == 200
        assert status(str(now - 1)) == 408
        assert status(str(now + 600), texts=20) == 408, "it expires while it waits for the device"
        assert status("soon") == 422

    def test_slow_clients_do_not_keep_others_from_being_served(
        self, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "HEAD_S", 3.0)
        served = serve()
        with ExitStack() as stack:
            slow_ones = [stack.enter_context(served.connection()) for _ in range(200)]
            for number, each in enumerate(slow_ones):
                each.sendall(b"POST /embed HTTP/1.1\r\nHost: a\r\nX: " if number % 2 else head(1000) + b'{"te')
            for _ in range(20):
                assert served.embed(texts=["a"]).status_code == 200
            # A head that doesn't end costs its connection; a later one on a used connection too.
            assert all(each.recv(1) == b"" for each in slow_ones[1::2])
            used = stack.enter_context(served.connection())
            used.sendall(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /live HTTP/1.1\r\nHost: a\r\n")
            with used.makefile("rb") as answers:
                assert answers.read().count(b"HTTP/1.1 200") == 1

    def test_a_head_too_large_costs_its_connection(self, served: Served) -> None:
        with served.connection() as sending:
            with pytest.raises(ConnectionError):
                sending.sendall(b"GET /live HTTP/1.1\r\n" + b"X: y\r\n" * 10_000_000)
            assert served.client.get("/live").status_code == 200

    def test_browsers_of_other_origins_get_in_only_where_they_may(self, serve: Callable[..., Served]) -> None:
        headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in serve().client.options("/embed", headers=headers).headers
        open_one = serve(cors_origins=["https://a.example"])
        allowed = open_one.client.options("/embed", headers=headers).headers
        assert allowed["access-control-allow-origin"] == "https://a.example"


def test_a_stop_answers_what_was_accepted_and_refuses_the_rest(serve: Callable[..., Served]) -> None:
    stopping = serve(slow(0.1))
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(stopping.embed, texts=["a"] * 10)
        wait_for(lambda: stopping.source.held()[0] == 10, 20, "the items")
        stopping.pipeline.stop_reading()
        refused = stopping.embed(texts=["b"])
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert stopping.client.get("/live").status_code == 200
        assert stopping.pipeline.drain(60)
        stopping.pipeline.stop()
        assert accepted.result().json()["count"] == 10


def test_nothing_is_submitted_once_reading_has_stopped(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = serve(slow(0.05))
    submitted: list[object] = []
    submit = stopping.pipeline.submit

    def count(*args: Any, **options: Any) -> Any:
        submitted.append(None)
        time.sleep(0.002)  # so that 2000 items take a while
        return submit(*args, **options)

    monkeypatch.setattr(stopping.pipeline, "submit", count)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(stopping.embed, texts=["a"] * 2000)
        wait_for(lambda: submitted, 20, "the first item")
        stopping.pipeline.stop_reading()
        before = len(submitted)
        assert answer.result().status_code == 503
        assert len(submitted) == before < 2000
    assert stopping.pipeline.drain(60)
    assert stopping.source.held() == (0, 0)


def test_what_a_stop_cannot_finish_is_answered_503(serve: Callable[..., Served]) -> None:
    stopping = serve(slow(0.2))
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(stopping.embed, texts=["a"] * 1000)
        wait_for(lambda: stopping.source.held()[0] == 1000, 20, "the items")
        stopping.pipeline.stop()
        answer = accepted.result()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"] == "stopping"


def head(length: int) -> bytes:
    lines = ["POST /embed HTTP/1.1", "Host: a", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


class TestPriority:
    """Bulk tasks come from another source, as those of a stream do."""

    @staticmethod
    def submit_bulk(served: Served, count: int, **more: Any) -> list[object]:
        answered: list[object] = []
        for number in range(count):
            task = {"task_id": f"bulk-{number}", "text": f"bulk {number}", **more}
            served.pipeline.submit(task, Origin("local", f"{number}"), OnOutcome(answered.append))
        return answered

    def test_a_request_overtakes_bulk_tasks_of_its_model(self, serve: Callable[..., Served]) -> None:
        busy = serve(slow(0.05))
        answered = self.submit_bulk(busy, 200)
        assert busy.embed(texts=["a"]).status_code == 200
        assert len(answered) < 100
        header = {"X-Priority": "bulk"}
        assert busy.client.post("/embed", json={"texts": ["a"]}, headers=header).status_code == 200
        assert len(answered) == 200, "a bulk request waits for its turn"
        assert busy.client.post("/embed", json={"texts": []}, headers={"X-Priority": "high"}).status_code == 422

    def test_bulk_tasks_have_a_share_beside_requests(self, serve: Callable[..., Served]) -> None:
        busy = serve(slow(0.05))
        with ThreadPoolExecutor() as pool:
            many = pool.submit(busy.embed, texts=["a"] * 200)
            wait_for(lambda: busy.source.held()[0] == 200, 20, "the request's items")
            answered = self.submit_bulk(busy, 5)
            wait_for(lambda: len(answered) == 5, 60, "the bulk tasks' answers")
            assert not many.done()
            assert many.result().status_code == 200

    def test_a_task_may_be_interactive(self, serve: Callable[..., Served]) -> None:
        busy = serve(slow(0.05))
        bulk = self.submit_bulk(busy, 200)
        first = self.submit_bulk(busy, 1, priority="interactive")
        wait_for(lambda: first, 60, "the interactive task's answer")
        assert len(bulk) < 100
