from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.settings.file import lines

if TYPE_CHECKING:
    from pathlib import Path

TEXT = '''# A comment
worker_id = "a"   # line 2

[streams]
reply_to_allow = [
    "a",
]
routes = { shop = "s", other = "o" }
results = """
x = 1
"""
[models.eva-02]
weight = 2
options.a.b = 3
'''


def test_each_value_has_the_line_at_which_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "legit.toml"
    path.write_text(TEXT)
    assert lines(path) == {
        ("worker_id",): 2,
        ("streams",): 4,
        ("streams", "reply_to_allow"): 5,
        ("streams", "routes", "shop"): 8,
        ("streams", "routes", "other"): 8,
        ("streams", "results"): 9,
        ("models", "eva-02"): 12,
        ("models", "eva-02", "weight"): 13,
        ("models", "eva-02", "options", "a", "b"): 14,
    }
