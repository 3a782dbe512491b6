from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.broker import settlement
from legit_embedding.broker.settlement import Recent

if TYPE_CHECKING:
    import pytest


def test_the_last_tags_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "TOGETHER_S", 0)
    recent = Recent(60, 5)
    recent.add(["a", "b"])
    recent.add(["c", "ü\udcff"])
    recent.add(["e", "f"])
    assert recent.all() == ["c", "ü\udcff", "e", "f"], "six are too many"


def test_the_tags_of_a_second_are_forgotten_together() -> None:
    recent = Recent(60, 3)
    recent.add(["a", "b"])
    recent.add(["c", "d"])
    assert recent.all() == ["a", "b", "c", "d"]


def test_a_tag_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "TOGETHER_S", 0)
    recent = Recent(0, 5)
    recent.add(["a"])
    recent.add(["b"])
    assert recent.all() == ["b"]
