from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from legit_embedding.cli.setup.init import profile
from legit_embedding.cli.setup.sample import settings_file
from legit_embedding.config import Settings, load_settings
from tests.unit.cli.invoking import Cli

ROOT = Path(__file__).parents[4]
FILES = {
    "legit.toml",
    *(f"celeryconfig/{name}.py" for name in ("__init__", "base", "cutover", "gpubatch", "legacy", "prep_only")),
}


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_a_folder_that_works_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cli()("init", tmp_path / "new")
    assert written(tmp_path / "new") == FILES
    monkeypatch.chdir(tmp_path)
    defaults = load_settings()
    monkeypatch.chdir(tmp_path / "new")
    assert load_settings() == defaults


def test_the_folder_is_this_one_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = Cli()("init").stdout
    assert written(tmp_path) == FILES
    assert said.startswith("Written to this folder: legit.toml, celeryconfig/\nEdit them, then: celery ")


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    (tmp_path / "legit.toml").write_text("worker_id = 'mine'\n")
    assert "legit.toml in" in Cli().failure("init", tmp_path)
    assert written(tmp_path) == {"legit.toml"}
    Cli()("init", tmp_path, "--force")
    assert "mine" not in (tmp_path / "legit.toml").read_text()
    assert written(tmp_path) == FILES


def test_every_setting_is_in_the_file_with_its_default() -> None:
    text = settings_file()
    assert tomllib.loads(text)["streams"] == {}
    fixed, _, models = text.partition("# The models, by a name")
    after = models[models.index("[remote]") :]
    uncommented = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", fixed + after, flags=re.MULTILINE))
    expected = Settings().model_dump(mode="json")
    for name in expected.keys() - {"models"}:
        unset = {"compile_cache": "", "stall_exit_s": "", "proxy": "", "ca_file": "", "token_file": ""}
        value = expected[name]
        assert uncommented[name] == (
            value | {key: unset[key] for key in unset.keys() & value.keys()} if isinstance(value, dict) else value
        )
    assert "# # weight = 1.0" in models


@pytest.mark.parametrize("name", sorted(FILES - {"legit.toml"}))
def test_the_repositorys_own_copy_is_what_it_writes(name: str) -> None:
    assert (ROOT / name).read_text() == profile(Path(name).stem), "run legit-embedding init --force for celeryconfig/"
