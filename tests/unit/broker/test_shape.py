"""What is replaced of kombu is there; a worker on another kombu takes messages in kombu's own way, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.transport import redis as redis_transport

from legit_embedding.broker import step
from legit_embedding.broker.shape import missing

if TYPE_CHECKING:
    import pytest


def test_the_pinned_kombu_fits() -> None:
    assert missing() == []


def test_what_is_missing_is_named() -> None:
    assert missing([(redis_transport.QoS, ("append", "no_such_thing"))]) == ["QoS.no_such_thing"]


def test_a_worker_on_another_kombu_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.integration.test_broker_step import Consumer

    monkeypatch.setattr(step, "missing", lambda: ["QoS.append"])
    consumer = object.__new__(Consumer)
    monkeypatch.setattr(Consumer, "connect", lambda self: None)
    Consumer.__init__(consumer, "redis://", None)
    assert "it lacks QoS.append" in caplog.text
