from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from legit_embedding.config import Settings
from tests.unit.cli.invoking import Cli

if TYPE_CHECKING:
    from pathlib import Path

FILE = """redis_url = "redis://me:geheim@localhost:1/0?password=x"
[streams]
group = "mine"
[models.minilm.options]
api_key = "geheim"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legit.toml").write_text(FILE)


def test_every_value_in_force_has_its_place() -> None:
    shown = Cli().json("settings", "--json", FETCH__ALLOW_PRIVATE="a,b", MODELS__EVA02_L_14__WEIGHT="2")
    assert shown["streams.group"] == {"value": "mine", "from": "legit.toml:3"}
    assert shown["streams.tasks"] == {"value": "embedding_tasks", "from": "default"}
    assert shown["fetch.allow_private"] == {"value": ["a", "b"], "from": "LEGIT_FETCH__ALLOW_PRIVATE"}
    assert shown["models.eva02-l-14.weight"] == {"value": 2, "from": "LEGIT_MODELS__EVA02_L_14__WEIGHT"}
    assert shown["models.minilm.backend"] == {"value": "transformers", "from": "default"}
    assert set(Settings.model_fields) <= {key.split(".")[0] for key in shown}


def test_only_what_is_set() -> None:
    shown = Cli().json("settings", "--set", "--json", HTTP__PORT="80")
    assert list(shown) == ["redis_url", "streams.group", "models.minilm.options.api_key", "http.port"]


def test_secrets_are_masked() -> None:
    for arguments in (("settings",), ("settings", "--json")):
        output = Cli()(*arguments, HTTP__TOKEN="geheim").stdout
        assert "geheim" not in output
        assert "redis://***@localhost:1/0?***" in output


def test_nothing_is_set(tmp_path: Path) -> None:
    (tmp_path / "legit.toml").unlink()
    assert Cli()("settings", "--set").stdout.strip() == "Nothing is set"


def test_a_heading_sets_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "legit.toml"
    settings.write_text("[streams]\n# group = 'a'\n[fetch]\ntimeout_s = 3\n[remote]\n")
    assert list(Cli(CONFIG=str(settings)).json("settings", "--set", "--json")) == ["fetch.timeout_s"]
