"""The strict client of the examples against servers that answer wrongly; `tests/acceptance` has it at the real door."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from examples import embed_client
from examples.embed_client import EmbedClient, WrongAnswerError
from tests.remotes import DIM, Remote, Reply, answer, as_json, vector
from tests.unit.remote.test_processor import BROKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.remotes import Request

TEXTS = ["one", "two", "three"]


@pytest.fixture
def remote() -> Iterator[Remote]:
    with Remote() as remote:
        yield remote


@pytest.fixture
def client(remote: Remote) -> Iterator[EmbedClient]:
    client = EmbedClient(remote.url, DIM, tries=2)
    yield client
    client.close()


@pytest.mark.parametrize("way", BROKEN)
def test_no_wrong_answer_is_believed(client: EmbedClient, remote: Remote, way: str) -> None:
    remote.misbehave = BROKEN[way]("http")
    with pytest.raises((WrongAnswerError, httpx.HTTPStatusError, httpx.TransportError)):
        client.embed(TEXTS)
    remote.misbehave = lambda request: None
    np.testing.assert_allclose(client.embed(TEXTS), [vector(text) for text in TEXTS], rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"count": 4}, {"count": "3"}, {"count": True}, {"dimension": float(DIM)}, {"model": None}, {"dense_vecs": {}}],
)
def test_every_field_is_checked(client: EmbedClient, remote: Remote, change: dict[str, object]) -> None:
    remote.misbehave = lambda request: as_json(answer("http", request) | change)
    with pytest.raises(WrongAnswerError):
        client.embed(TEXTS)


def test_an_answer_without_bounds_is_not_read_to_its_end(
    client: EmbedClient, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_client, "MOST_BYTES", 1000)
    remote.misbehave = lambda request: Reply(json.dumps(answer("http", request)).encode() + b" " * 2000)
    with pytest.raises(WrongAnswerError, match="more than 1000 bytes"):
        client.embed(TEXTS)


def test_an_answer_that_trickles_is_not_waited_for(remote: Remote) -> None:
    remote.misbehave = lambda request: Reply(b" " * 100_000, drip_s=0.05)
    client = EmbedClient(remote.url, DIM, timeout_s=0.5)
    with pytest.raises(httpx.ReadTimeout):
        client.embed(TEXTS)
    client.close()


def test_503_is_asked_again_and_nothing_else(client: EmbedClient, remote: Remote) -> None:
    remote.misbehave = once(Reply(status=503, headers={"retry-after": "0"}))
    assert len(client.embed(TEXTS)) == 3
    assert len(remote.requests) == 2
    remote.misbehave = once(Reply(status=500))
    with pytest.raises(httpx.HTTPStatusError):
        client.embed(TEXTS)
    assert len(remote.requests) == 3


def once(reply: Reply) -> Callable[[Request], Reply | None]:
    left = [reply]
    return lambda request: left.pop() if left else None
