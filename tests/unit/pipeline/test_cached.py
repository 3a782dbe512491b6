"""The content cache where it cannot answer: the items are computed, or given back at a stop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.models.config import ModelConfig
from legit_embedding.pipeline.cached import Cached, _key
from legit_embedding.redis_io.address import RedisAddress
from tests.servers import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


class Inner:
    """A processor that keeps what it takes."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.has_room = self.cancel = self.full_batch = self.progress = self.info = self.front = lambda *_: None
        self.closed = False

    def start(self) -> None: ...
    def stats(self) -> None: ...
    def submit(self, job: Any) -> None:
        self.taken.append(job)

    def close(self, **_: Any) -> None:
        self.closed = True


class Item:
    """As much of a job as the cache looks at."""

    def __init__(self, cache_s: int = 60, origin: str = "stream", content: bytes = b"c") -> None:
        config = ModelConfig(kind="text", backend="a test", cache_s=cache_s)
        self.tower = SimpleNamespace(config=config, identity=lambda: {"model": "m"})
        self.content, self.origin, self.model = content, SimpleNamespace(kind=origin), "m"
        self.dimensions, self.encoding, self.cache_key = None, "base64_fp32", ""
        self.was_given_back = False

    def given_back(self) -> None:
        self.was_given_back = True


def cached(inner: Inner, on_fatal: Callable[[BaseException], None] | None = None) -> Cached:
    address = RedisAddress.of(f"redis://127.0.0.1:{free_port()}/0")
    return Cached(inner, address, "embedding_tasks", on_fatal)  # type: ignore[arg-type]


def test_without_its_server_everything_is_computed(caplog: pytest.LogCaptureFixture) -> None:
    inner = Inner()
    front = cached(inner)
    front.start()
    items = [Item() for _ in range(5)]
    for item in items:
        front.submit(item)  # type: ignore[arg-type]
    wait_for(lambda: len(inner.taken) == len(items), 20, "the items to be passed on")
    assert all(item.cache_key for item in items)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    front.close(give_back=True, timeout=1)
    assert inner.closed


@pytest.mark.parametrize("item", [Item(cache_s=0), Item(origin="http"), Item(content=b"")])
def test_what_is_not_kept_is_not_looked_up(item: Item) -> None:
    inner = Inner()
    cached(inner).submit(item)  # type: ignore[arg-type]
    assert inner.taken == [item]
    assert not item.cache_key


def test_a_stop_gives_back_what_waits_for_a_lookup() -> None:
    front, item = cached(Inner()), Item()
    front.submit(item)  # type: ignore[arg-type]
    front.close(give_back=True, timeout=1)
    assert item.was_given_back


def test_an_item_that_cannot_be_passed_on_costs_itself_only() -> None:
    inner, crashed = Inner(), []
    front, bad, good = cached(inner), Item(), Item()
    bad.crashed = lambda doing, error: crashed.append(str(error))  # type: ignore[attr-defined]
    take = inner.submit

    def submit(job: Any) -> None:
        if job is bad:
            raise ValueError("not this one")
        take(job)

    inner.submit = submit  # type: ignore[method-assign]
    front.start()
    for item in (bad, good):
        front.submit(item)  # type: ignore[arg-type]
    wait_for(lambda: inner.taken == [good], 20, "the good item to be passed on")
    assert crashed == ["not this one"]
    front.close(give_back=True, timeout=1)


def test_a_thread_that_ends_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    causes: list[BaseException] = []
    front = cached(Inner(), causes.append)
    monkeypatch.setattr(front, "_look_up", lambda _: (_ for _ in ()).throw(SystemExit("gone")))
    front.start()
    front.submit(Item())  # type: ignore[arg-type]
    wait_for(lambda: causes, 20, "the end to be reported")
    assert str(causes[0]) == "gone"


@pytest.mark.parametrize(
    "changed",
    [{"revision": "two"}, {"digest": "other"}, {"normalize": False}, {"pooling": "cls"}, {"content": b"other"}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_model_or_content_has_another_key(changed: dict[str, Any]) -> None:
    assert _key(keyed()) == _key(keyed())  # type: ignore[arg-type]
    assert _key(keyed(**changed)) != _key(keyed())  # type: ignore[arg-type]


def keyed(content: bytes = b"c", revision: str = "one", digest: str = "weights", **settings: Any) -> Item:
    item = Item(content=content)
    config = ModelConfig(kind="text", backend="a test", cache_s=60, **settings)
    identity = {"model": "m", "revision": revision, "digest": digest}
    item.tower = SimpleNamespace(config=config, identity=lambda: identity)
    return item
