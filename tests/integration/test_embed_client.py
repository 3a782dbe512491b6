"""The client of `/embed` that knows the contract only, against the door and against servers that break the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples import embed_client
from examples.embed_client import EmbedClient, EmbedError
from legit_embedding.models.null import expected
from tests.door import DIM, MODELS, Served
from tests.remotes import DIM as REMOTE_DIM
from tests.remotes import Remote, Reply
from tests.unit.remote.test_processor import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = ["one", "two", "", "one"]
HARMLESS = {"zeros"}
"""The contract does not promise vectors of a length: a model may be set not to normalise."""


@pytest.fixture(scope="module")
def door() -> Iterator[Served]:
    served = Served(MODELS, {}, start=True)
    yield served
    served.close()


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_client, "TRIES", 2)


def client_of(port: int, dimension: int, **options: object) -> EmbedClient:
    return EmbedClient(f"http://127.0.0.1:{port}", dimension, **options)  # type: ignore[arg-type]


def test_the_door_keeps_the_contract(door: Served) -> None:
    client = client_of(door.port, DIM)
    assert client.is_well()
    found = client.embed(TEXTS)
    assert found == [pytest.approx(expected(text, DIM).tolist(), abs=1e-6) for text in TEXTS]
    assert client.embed([]) == []
    client.close()


@pytest.mark.parametrize(
    ("options", "why"),
    [({"dimension": DIM + 1}, "a dimension of 9"), ({"dimension": DIM, "model": "nobody"}, "status 404")],
)
def test_what_the_door_cannot_give_is_refused(door: Served, options: dict[str, object], why: str) -> None:
    client = client_of(door.port, **options)  # type: ignore[arg-type]
    with pytest.raises(EmbedError, match=why):
        client.embed(TEXTS)
    client.close()


@pytest.mark.parametrize("way", sorted(BROKEN.keys() - HARMLESS))
def test_no_broken_answer_is_believed(way: str) -> None:
    with Remote() as remote:
        remote.misbehave = BROKEN[way]("http")
        client = client_of(remote.port, REMOTE_DIM)
        with pytest.raises(EmbedError):
            client.embed(TEXTS)
        client.close()


def test_a_server_that_recovers_is_asked_again() -> None:
    with Remote() as remote:
        answers = iter([Reply(status=503, headers={"retry-after": "0"})])
        remote.misbehave = lambda _: next(answers, None)
        client = client_of(remote.port, REMOTE_DIM)
        assert len(client.embed(TEXTS)) == len(TEXTS)
        assert len(remote.requests) == 2
        client.close()


def test_an_answer_that_drips_is_not_waited_for() -> None:
    with Remote() as remote:
        remote.misbehave = lambda _: Reply(body=b" " * 100_000, drip_s=0.01)
        client = client_of(remote.port, REMOTE_DIM, timeout_s=0.5)
        with pytest.raises(EmbedError, match=r"longer than 0\.5 s"):
            client.embed(TEXTS)
        client.close()


def test_nobody_there_is_not_well() -> None:
    client = client_of(1, DIM, health_timeout_s=0.5)
    assert not client.is_well()
    with pytest.raises(EmbedError, match="ConnectError"):
        client.embed(TEXTS)
    client.close()
