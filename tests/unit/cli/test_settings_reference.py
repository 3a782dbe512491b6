from __future__ import annotations

from pathlib import Path

import pytest

from legit_embedding.cli.settings_reference import descriptions, page, sections
from legit_embedding.config import Settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


@pytest.mark.parametrize(("path", "model"), [pytest.param(*each, id=each[0] or "top") for each in sections()])
def test_every_setting_says_what_it_means(path, model):
    known = descriptions(model)
    missing = [".".join(filter(None, (path, name))) for name in model.model_fields if not known.get(name)]
    assert not missing, f"a docstring is missing below {', '.join(missing)}"


def test_every_section_is_there():
    paths = [path for path, _ in sections()]
    assert paths[0] == ""
    assert {"streams", "models.NAME", "fetch", "engine", "http", "telemetry", "task_names"} <= set(paths)
    assert len(paths) == len(set(paths))


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run scripts/settings_reference"


def test_the_page_shows_type_range_and_default():
    lines = {line.split(" | ")[0]: line for line in page().splitlines()}
    assert "| number, > 0, ≤ 0.95 | `0.8` |" in lines["| `memory_fraction`"]
    assert "| path | unset |" in lines["| `compile_cache`"]
    assert all(f"| `{name}` |" in page() for name in Settings.model_fields)
