from __future__ import annotations

from threading import Event

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from legit_embedding.redis_io.connection import Backoff, explain, public_url, wait_until_reachable
from tests.servers import free_port


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6380/3?password=secret", "redis://host:6380/3"),
        ("rediss://:secret@host", "rediss://host:6379"),
        ("redis://[::1]:7000/0", "redis://[::1]:7000/0"),
        ("unix://user:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_waits_grow_to_the_cap_and_are_jittered() -> None:
    backoff = Backoff(first_s=0.1, cap_s=5)
    assert 0.05 <= backoff.delay(1) <= 0.1
    assert 0.2 <= backoff.delay(3) <= 0.4
    late = {backoff.delay(10_000) for _ in range(20)}
    assert 2.5 <= min(late) <= max(late) <= 5
    assert len(late) > 1


def test_an_error_without_a_text_is_named() -> None:
    assert explain(RedisTimeoutError()) == "TimeoutError"
    assert explain(ValueError("one\n line")) == "one line"


def test_waiting_for_redis_ends_when_told_to_stop() -> None:
    stop, said = Event(), []

    def say(sentence: str) -> None:
        said.append(sentence)
        stop.set()

    assert wait_until_reachable(f"redis://:secret@127.0.0.1:{free_port()}/0", stop, say) is False
    assert len(said) == 1
    assert "waiting for Redis at redis://127.0.0.1" in said[0]
    assert "secret" not in said[0]
