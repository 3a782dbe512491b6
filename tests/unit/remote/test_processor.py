"""Remote models that misbehave: no wrong vector, nothing lost, nothing settled twice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.remotes import DIM, PATHS, Remote, Reply, answer, as_json, vector
from tests.unit.remote.deliveries import NAME, Item
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.stats import RemoteStats
    from legit_embedding.remote.processor import RemoteProcessor
    from tests.remotes import Request

    Make = Callable[..., RemoteProcessor]

LIMIT_S = 60.0


def submit(processor: RemoteProcessor, texts: list[str], **options: Any) -> list[Item]:
    recipe = processor._lanes[NAME].model.recipe()
    items = [Item(text, recipe, **options) for text in texts]
    for item in items:
        processor.submit(item)
    return items


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def settled(items: list[Item]) -> None:
    wait_for(lambda: all(item.outcomes for item in items), LIMIT_S, "every item to be settled")


def state(processor: RemoteProcessor) -> RemoteStats:
    remote = processor.stats()[NAME].remote
    assert remote is not None
    return remote


def replies(*first: Callable[[Request], Reply], then: Callable[[Request], Reply | None] = lambda request: None) -> Any:
    """Misbehave in these ways, one per request that is no probe, and then in another, or not at all."""
    left = list(first)

    def misbehave(request: Request) -> Reply | None:
        if request.is_probe:
            return None
        return left.pop(0)(request) if left else then(request)

    return misbehave


class TestGood:
    def test_each_item_gets_its_vector(self, any_remote: Remote, make_processor: Make) -> None:
        processor = make_processor(any_remote)
        items = submit(processor, texts(100))
        settled(items)
        assert all(item.is_right for item in items)
        assert sorted(any_remote.embedded) == sorted(texts(100))
        assert {request.path for request in any_remote.requests} == {PATHS[any_remote.backend]}
        stats = processor.stats()[NAME]
        assert (stats.items, stats.waiting, stats.failures) == (100, 0, 0)
        assert state(processor).problem == ""

    def test_several_requests_are_in_flight_and_no_more(self, remote: Remote, make_processor: Make) -> None:
        gate = threading.Event()
        processor = make_processor(remote, max_requests=3, max_batch=8)
        wait_for(lambda: remote.requests, LIMIT_S, "a probe")
        remote.misbehave = lambda request: as_json_gated(request, gate)
        items = submit(processor, texts(200))
        wait_for(lambda: state(processor).requests == 3, LIMIT_S, "three requests")
        gate.set()
        settled(items)
        assert remote.most_at_once == 3
        assert max(len(request.items) for request in remote.requests) == 8
        assert all(item.is_right for item in items)

    def test_prompts_are_not_mixed(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote, linger_ms=100)
        recipe = processor._lanes[NAME].model.recipe()
        items = [Item(f"text {n}", recipe, prompt=("query", None)[n % 2]) for n in range(20)]
        for item in items:
            processor.submit(item)
        settled(items)
        assert all(item.is_right for item in items)
        for request in remote.requests:
            asked = {int(text.split()[1]) % 2 for text in request.items if text != "probe"}
            assert asked <= {0 if request.fields.get("prompt_name") == "query" else 1}

    def test_a_remote_that_takes_no_base64_is_asked_for_numbers(self, make_processor: Make) -> None:
        with Remote("openai") as remote:

            def misbehave(request: Request) -> Reply | None:
                refused = request.fields["encoding_format"] != "float"
                return as_json({"error": "unknown encoding_format"}, 422) if refused else None

            remote.misbehave = misbehave
            items = submit(make_processor(remote), texts(5))
            settled(items)
            assert all(item.is_right for item in items)

    def test_vectors_are_normalised_here_too(self, any_remote: Remote, make_processor: Make) -> None:
        longer = lambda request: as_json(  # noqa: E731
            answer(any_remote.backend, request, [(3 * vector(item)).tolist() for item in request.items])
        )
        any_remote.misbehave = longer
        items = submit(make_processor(any_remote), texts(5))
        settled(items)
        assert all(item.is_right for item in items)


def as_json_gated(request: Request, gate: threading.Event) -> Reply:
    reply = as_json(answer("http", request))
    reply.gate = gate
    return reply


def rows(request: Request) -> list[Any]:
    return [vector(item).tolist() for item in request.items]


def wrong_dimension(backend: str) -> Callable[[Request], Reply]:
    def reply(request: Request) -> Reply:
        content = answer(backend, request, [row[:-1] for row in rows(request)])
        return as_json(content | ({"dimension": DIM - 1} if "dimension" in content else {}))

    return reply


def with_rows(backend: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Request], Reply]:
    return lambda request: as_json(answer(backend, request, change(rows(request))))


def raw(**options: Any) -> Callable[[Request], Reply]:
    return lambda request: Reply(**options)


def replaced(row: list[float], value: Any) -> list[Any]:
    return [value, *row[1:]]


def cut(backend: str) -> Callable[[Request], Reply]:
    def reply(request: Request) -> Reply:
        reply = as_json(answer(backend, request))
        reply.cut = len(reply.body) // 2
        return reply

    return reply


JSON, PLAIN = {"content-type": "application/json"}, {"content-type": "text/plain"}
BROKEN: dict[str, Callable[[str], Callable[[Request], Reply]]] = {
    "NaN": lambda b: with_rows(b, lambda rows: [replaced(row, float("nan")) for row in rows]),
    "infinity": lambda b: with_rows(b, lambda rows: [replaced(row, 1e999) for row in rows]),
    "beyond float32": lambda b: with_rows(b, lambda rows: [replaced(row, 1e300) for row in rows[:1]] + rows[1:]),
    "null": lambda b: with_rows(b, lambda rows: [replaced(row, None) for row in rows]),
    "text": lambda b: with_rows(b, lambda rows: [replaced(row, "0.5") for row in rows]),
    "boolean": lambda b: with_rows(b, lambda rows: [replaced(row, True) for row in rows]),
    "nested": lambda b: with_rows(b, lambda rows: [[row] for row in rows]),
    "zeros": lambda b: with_rows(b, lambda rows: [[0.0] * DIM for _ in rows]),
    "wrong dimension": wrong_dimension,
    "fewer": lambda b: with_rows(b, lambda rows: rows[:-1]),
    "more": lambda b: with_rows(b, lambda rows: [*rows, rows[0]]),
    "none": lambda b: with_rows(b, lambda rows: []),
    "HTML": lambda b: raw(body=b"<html>Welcome</html>", headers={"content-type": "text/html"}),
    "HTML as JSON": lambda b: raw(body=b"<html>Welcome</html>"),
    "JSON as text": lambda b: (
        lambda request: Reply(as_json(answer(b, request)).body, headers={"content-type": "text/plain"})
    ),
    "a list": lambda b: raw(body=b"[]"),
    "empty": lambda b: raw(body=b""),
    "empty object": lambda b: raw(body=b"{}"),
    "deep": lambda b: raw(body=b"[" * 200_000),
    "compressed": lambda b: raw(
        body=b"\x1f\x8b", headers={"content-type": "application/json", "content-encoding": "gzip"}
    ),
    "half": cut,
    "500": lambda b: raw(status=500, body=b"Internal Server Error"),
    "503": lambda b: raw(status=503, headers={"retry-after": "1"}),
    "429": lambda b: raw(status=429, headers={"retry-after": "1"}),
    "418": lambda b: raw(status=418),
    "204": lambda b: raw(status=204),
    "redirect": lambda b: raw(status=302, headers={"location": "http://127.0.0.1:1/embed"}),
    "401": lambda b: raw(status=401),
    "403": lambda b: raw(status=403),
    "404": lambda b: raw(status=404, body=b'{"error": "model not found"}'),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_answer_is_asked_for_again(any_remote: Remote, make_processor: Make, way: str) -> None:
    processor = make_processor(any_remote)
    wait_for(lambda: any_remote.requests, LIMIT_S, "a probe")
    any_remote.misbehave = replies(*[BROKEN[way](any_remote.backend)] * 2)
    items = submit(processor, texts(40))
    settled(items)
    assert all(item.is_right for item in items)
    assert sum(state(processor).errors.values()) == 2
