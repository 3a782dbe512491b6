from __future__ import annotations

from redis.exceptions import TimeoutError as RedisTimeoutError

from legit_embedding.redis_io.connection import Backoff, explain


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
