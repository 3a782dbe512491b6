"""Remote models that misbehave: no wrong vector, nothing lost, nothing settled twice."""

from __future__ import annotations

import threading
import time
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
        wait_for(lambda: remote.most_at_once == 3, LIMIT_S, "three requests")
        assert state(processor).requests == 3
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


def wait_for_state(processor: RemoteProcessor, problem: str) -> None:
    wait_for(lambda: problem in state(processor).problem and state(processor).problem, LIMIT_S, f"health: {problem!r}")


class TestIndexes:
    """Of OpenAI's answers, whose order is free."""

    @staticmethod
    def reply(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Request], Reply]:
        def reply(request: Request) -> Reply:
            content = answer("openai", request)
            return as_json(content | {"data": change(content["data"])})

        return reply

    def test_entries_out_of_order_are_put_in_order(self, make_processor: Make) -> None:
        with Remote("openai") as remote:
            remote.misbehave = self.reply(lambda data: data[::-1])
            processor = make_processor(remote)
            items = submit(processor, texts(40))
            settled(items)
            assert all(item.is_right for item in items)
            assert state(processor).errors == {}

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: [entry | {"index": 0} for entry in data],
            lambda data: [*data[:-1], data[0]],
            lambda data: [entry | {"index": entry["index"] + 1} for entry in data],
            lambda data: [entry | {"index": str(entry["index"])} for entry in data],
            lambda data: [entry | {"index": bool(entry["index"])} for entry in data],
            lambda data: [{"embedding": entry["embedding"]} for entry in data],
            lambda data: [entry["embedding"] for entry in data],
            lambda data: {"0": data[0]},
        ],
    )
    def test_indexes_that_do_not_fit_are_broken(self, make_processor: Make, change: Any) -> None:
        with Remote("openai") as remote:
            processor = make_processor(remote, linger_ms=50)
            wait_for(lambda: remote.requests, LIMIT_S, "a probe")
            remote.misbehave = replies(self.reply(change))
            items = submit(processor, texts(2))
            settled(items)
            assert all(item.is_right for item in items)
            assert state(processor).errors == {"broken": 1}


class TestPoison:
    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            (Reply(status=400, body=b'{"error": "bad text"}'), "poisoned"),
            (Reply(status=422), "poisoned"),
            (Reply(status=413), "too_large"),
            (Reply(status=500), "poisoned"),
            (Reply(body=b"{}"), "poisoned"),
        ],
    )
    def test_one_item_among_64_costs_itself_only(
        self, any_remote: Remote, make_processor: Make, reply: Reply, code: str
    ) -> None:
        any_remote.misbehave = lambda request: reply if "poison" in request.items else None
        processor = make_processor(any_remote, max_batch=64, linger_ms=50)
        items = submit(processor, [*texts(40), "poison", *texts(23)])
        settled(items)
        assert [item.code for item in items if item.text == "poison"] == [code]
        assert all(item.is_right for item in items if item.text != "poison")
        assert any_remote.embedded.count("poison") < 50

    def test_alone_it_is_answered_too(self, remote: Remote, make_processor: Make) -> None:
        remote.misbehave = lambda request: Reply(status=400, body=b"bad text") if "poison" in request.items else None
        (item,) = submit(make_processor(remote), ["poison"])
        settled([item])
        assert item.code == "model_failed"
        assert item.outcome.detail == "the remote model refuses this item: 400 Said: bad text"

    def test_a_remote_that_refuses_everything_is_not_believed(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote)
        settled(submit(processor, ["a good one"]))
        remote.misbehave = lambda request: Reply(status=400, body=b"unknown parameter")
        items = submit(processor, texts(200))
        wait_for_state(processor, "unknown parameter")
        remote.misbehave = lambda request: None
        settled(items)
        refused = [item for item in items if item.code in {"poisoned", "model_failed"}]
        assert len(refused) < 8
        assert all(item.is_right or item in refused for item in items)

    def test_one_that_refuses_everything_from_the_start_is_given_nothing(
        self, remote: Remote, make_processor: Make
    ) -> None:
        remote.misbehave = lambda request: Reply(status=400, body=b"unknown parameter")
        processor = make_processor(remote)
        items = submit(processor, texts(50))
        wait_for_state(processor, "it refuses a harmless probe: 400 Said: unknown parameter")
        assert remote.embedded == []
        remote.misbehave = lambda request: None
        settled(items)
        assert all(item.is_right for item in items)


class TestOutages:
    def test_killed_and_started_again(self, any_remote: Remote, make_processor: Make) -> None:
        processor = make_processor(any_remote)
        settled(submit(processor, texts(10)))
        any_remote.kill()
        items = submit(processor, texts(500))
        wait_for_state(processor, "no connection")
        assert state(processor).is_open
        assert [item.outcome for item in items if item.outcome is not None] == []
        any_remote.start()
        settled(items)
        assert all(item.is_right for item in items)
        assert (state(processor).is_open, state(processor).problem) == (False, "")

    def test_away_at_the_start(self, make_processor: Make) -> None:
        with Remote() as remote:
            remote.kill()
            processor = make_processor(remote)
            items = submit(processor, texts(10))
            wait_for_state(processor, "no connection")
            remote.start()
            settled(items)
            assert all(item.is_right for item in items)

    def test_while_the_breaker_is_open_only_probes_are_sent(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote, max_requests=2)
        settled(submit(processor, ["a good one"]))
        remote.misbehave = lambda request: Reply(status=500)
        items = submit(processor, texts(300))
        wait_for(lambda: state(processor).is_open, LIMIT_S, "the breaker to open")
        before = len(remote.embedded)
        seen = len(remote.requests)
        wait_for(lambda: len(remote.requests) > seen + 5, LIMIT_S, "five probes")
        assert len(remote.embedded) - before <= 32  # the one that was in flight
        remote.misbehave = lambda request: None
        settled(items)
        assert all(item.is_right for item in items)

    @pytest.mark.parametrize(
        "reply", [lambda: Reply(gate=threading.Event()), lambda: Reply(body=b" " * 1000, drip_s=0.02)]
    )
    def test_an_answer_that_never_ends(self, remote: Remote, make_processor: Make, reply: Callable[[], Reply]) -> None:
        processor = make_processor(remote, timeout_s=0.3)
        wait_for(lambda: remote.requests, LIMIT_S, "a probe")
        remote.misbehave = replies(lambda request: reply(), lambda request: reply())
        items = submit(processor, texts(40))
        settled(items)
        assert all(item.is_right for item in items)
        assert state(processor).errors == {"timeout": 2}

    def test_a_slow_remote_is_called_slow_and_used(self, remote: Remote, make_processor: Make) -> None:
        gate = threading.Event()
        remote.misbehave = lambda request: as_json_gated(request, gate)
        processor = make_processor(remote, health_timeout_s=0.1)
        items = submit(processor, texts(10))
        wait_for_state(processor, "no answer to a probe for more than 0.1 s")
        assert not state(processor).is_open
        gate.set()
        settled(items)
        assert all(item.is_right for item in items)
        assert state(processor).errors == {}

    @pytest.mark.parametrize(
        ("reply", "sentence"),
        [
            (Reply(status=401), "the token is missing or not accepted (401 Said)"),
            (Reply(status=403), "the token has no right to this"),
            (Reply(status=404, body=b"no such model"), "look at base_url and name (404 Said: no such model)"),
            (Reply(status=301, headers={"location": "http://127.0.0.1:1/"}), "redirects are not followed"),
            (Reply(status=200, body=b"<html>", headers={"content-type": "text/html"}), "text/html instead of JSON"),
        ],
    )
    def test_what_concerns_the_whole_model_is_answered_to_nobody(
        self, remote: Remote, make_processor: Make, reply: Reply, sentence: str
    ) -> None:
        processor = make_processor(remote)
        settled(submit(processor, ["a good one"]))
        remote.misbehave = lambda request: reply
        items = submit(processor, texts(100))
        wait_for_state(processor, sentence)
        assert [item.outcome for item in items if item.outcome is not None] == []
        remote.misbehave = lambda request: None
        settled(items)
        assert all(item.is_right for item in items)

    def test_a_remote_that_changes_its_model_is_not_believed(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote)
        settled(submit(processor, ["a good one"]))
        remote.misbehave = wrong_dimension("http")
        items = submit(processor, texts(100))
        wait_for_state(processor, "vectors of 7 dimensions instead of 8")
        assert [item.outcome for item in items if item.outcome is not None] == []
        remote.misbehave = lambda request: None
        settled(items)

    def test_retry_after_is_heeded(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote, max_requests=1)
        wait_for(lambda: remote.requests, LIMIT_S, "a probe")
        asked: list[float] = []

        def misbehave(request: Request) -> Reply | None:
            asked.append(time.monotonic())
            return Reply(status=429, headers={"retry-after": "1"}) if len(asked) == 1 else None

        remote.misbehave = misbehave
        settled(submit(processor, texts(10)))
        assert asked[1] - asked[0] >= 0.9

    def test_a_redirect_leads_nowhere(self, remote: Remote, make_processor: Make) -> None:
        with Remote() as elsewhere:
            remote.misbehave = replies(
                lambda request: Reply(status=307, headers={"location": elsewhere.url + "/embed"})
            )
            settled(submit(make_processor(remote), texts(10)))
            assert elsewhere.requests == []


class TestWaiting:
    """What becomes of items while their remote is away."""

    @pytest.fixture
    def away(self, remote: Remote, make_processor: Make) -> RemoteProcessor:
        processor = make_processor(remote)
        settled(submit(processor, ["a good one"]))
        remote.kill()
        return processor

    def test_one_that_is_cancelled_is_answered(self, away: RemoteProcessor) -> None:
        items = submit(away, texts(300))
        wait_for(lambda: state(away).is_open, LIMIT_S, "the breaker to open")
        for item in items:
            away.cancel(item, "revoked")
        settled(items)
        assert {item.code for item in items} == {"revoked"}

    def test_one_that_expires_is_answered(self, away: RemoteProcessor) -> None:
        expiring = submit(away, texts(100), deadline=time.time() + 0.2)
        others = submit(away, texts(100))
        settled(expiring)
        assert {item.code for item in expiring} == {"expired"}
        away.close(give_back=True, timeout=1.0)
        assert {item.outcome for item in others} == {"given back"}

    def test_too_many_leave_no_room(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote)
        remote.kill()
        submit(processor, texts(4200))
        wait_for(lambda: not processor.has_room(NAME), LIMIT_S, "a full queue")
        remote.start()
        wait_for(lambda: processor.has_room(NAME), LIMIT_S, "room")

    def test_a_stop_gives_them_back_and_awaits_what_was_sent(self, remote: Remote, make_processor: Make) -> None:
        gate = threading.Event()
        processor = make_processor(remote, max_requests=1, max_batch=4)
        wait_for(lambda: remote.requests, LIMIT_S, "a probe")
        remote.misbehave = lambda request: as_json_gated(request, gate)
        items = submit(processor, texts(50))
        wait_for(lambda: state(processor).requests == 1, LIMIT_S, "a request")
        sent = list(remote.embedded) or wait_for(lambda: list(remote.embedded), LIMIT_S, "its items")
        closing = threading.Thread(target=processor.close, kwargs={"give_back": True, "timeout": 20})
        closing.start()
        wait_for(lambda: sum(item.outcome is not None for item in items), LIMIT_S, "the others to be given back")
        gate.set()
        closing.join(LIMIT_S)
        assert all(item.is_right == (item.text in sent) for item in items)
        assert all(item.is_right or item.outcome == "given back" for item in items)

    def test_a_stop_does_not_wait_for_ever(self, remote: Remote, make_processor: Make) -> None:
        processor = make_processor(remote)
        wait_for(lambda: remote.requests, LIMIT_S, "a probe")
        remote.misbehave = lambda request: Reply(gate=threading.Event())
        items = submit(processor, texts(50))
        wait_for(lambda: state(processor).requests, LIMIT_S, "a request")
        processor.close(give_back=True, timeout=0.1)
        assert {item.outcome for item in items} == {"given back"}
        assert not processor.thread.is_alive()
