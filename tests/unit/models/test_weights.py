from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError
from legit_embedding.models.weights import in_package, random_seed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("pretrained", "seed"), [("random:0", 0), ("random:41", 41), ("", None), ("openai", None)])
def test_a_seed_is_a_whole_number(pretrained: str, seed: int | None) -> None:
    assert random_seed("m", ModelConfig(kind="text", backend="transformers", pretrained=pretrained)) == seed


@pytest.mark.parametrize("pretrained", ["random:", "random:-1", "random:1.5", "random:abc"])
def test_any_other_seed_is_refused(pretrained: str) -> None:
    config = ModelConfig(kind="text", backend="transformers", pretrained=pretrained)
    with pytest.raises(ConfigError, match=r"^models\.m\.pretrained: expected random:SEED"):
        random_seed("m", config)


def test_the_file_nearest_to_the_root_is_taken_and_the_package_is_not_imported(package: Path) -> None:
    for folder in ("model", "model/1_Pooling"):
        (package / folder).mkdir()
        (package / folder / "config.json").touch()
    assert in_package("m", "name", "package:legit_weights", ["config.json"]) == package / "model" / "config.json"


def test_the_first_pattern_that_fits_decides(package: Path) -> None:
    (package / "a.pt").touch()
    (package / "b.safetensors").touch()
    found = in_package("m", "name", "package:legit_weights", ["*.safetensors", "*.pt"])
    assert found == package / "b.safetensors"


def test_a_choice_is_not_made_for_the_operator(package: Path) -> None:
    for folder in ("small", "large"):
        (package / folder).mkdir()
        (package / folder / "config.json").touch()
    with pytest.raises(ConfigError, match=r"^models\.m\.name: .*more than one model \(large/config.json, small/config"):
        in_package("m", "name", "package:legit_weights", ["config.json"])


@pytest.mark.parametrize("value", ["package:", "package:no_such_package", "package:no.such.package", "package:../x"])
def test_a_package_that_is_not_there(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^models\.m\.pretrained: the Python package .* is not installed"):
        in_package("m", "pretrained", value, ["config.json"])


def test_a_package_without_a_model(package: Path) -> None:
    with pytest.raises(ConfigError, match=r"'legit_weights' holds no file named config\.json or x"):
        in_package("m", "pretrained", "package:legit_weights", ["config.json", "x"])
