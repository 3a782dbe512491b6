from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from legit_embedding.redis_io.health import Health, Outage

if TYPE_CHECKING:
    import pytest


def test_an_outage_is_logged_when_it_starts_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("the link")
    with caplog.at_level(logging.INFO):
        outage.over()
        for _ in range(3):
            outage.failed("away")
        outage.over()
        outage.over()
    # Threads of other tests may log meanwhile.
    said = [text for record in caplog.records if (text := record.getMessage()).startswith("the link")]
    assert [text.split(",")[0] for text in said[:-1]] == ["the link is out of order"]
    assert "works again" in said[-1]


def test_health_tells_the_last_error_and_since_when() -> None:
    outage = Outage("the link")
    assert outage.health == Health()
    before = time.time()
    outage.failed("first")
    since = outage.health.since
    outage.failed("second")
    assert before <= since <= time.time()
    assert outage.health == Health(ok=False, error="second", since=since)
    outage.over()
    assert outage.health.ok
