from __future__ import annotations

from legit_embedding.broker.settlement import Recent


def test_the_last_tags_are_remembered() -> None:
    recent = Recent(60, 5)
    recent.add(["a", "b"])
    recent.add([])
    recent.add(["c", "d"])
    recent.add(["e", "f"])
    assert recent.all() == ["c", "d", "e", "f"], "six are too many"


def test_a_tag_is_forgotten_in_time() -> None:
    recent = Recent(0, 5)
    recent.add(["a"])
    recent.add(["b"])
    assert "a" not in recent.all()
