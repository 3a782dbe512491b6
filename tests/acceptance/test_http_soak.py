"""The HTTP door under hostile requests and slow clients; ``scripts/soak --http`` is the same at size."""

from __future__ import annotations

import pytest

from tests.http_soak import mixed, slow
from tests.http_soak.hostile import KINDS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_valid_requests_are_right_among_hostile_ones() -> None:
    report = mixed.run(300, texts=40, images=8)
    right, sent = report.right
    assert right == sent > 150
    assert report.refused == 300 - sent
    assert len(report.hostile) > len(KINDS) / 2
    assert report.faults == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_honest_clients_are_served_beside_slow_ones_even_without_a_place_for_all() -> None:
    alone, beside, crowded = slow.run(200, seconds=3)
    assert [len(each.failed) for each in (alone, beside, crowded)] == [0, 0, 0]
    assert alone.held < 20 < beside.held
    assert crowded.cut > 0
    assert crowded.held <= 110
