from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from legit_embedding.config import ModelConfig, Settings


def config(**fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"backend": "open_clip"} | fields)


@pytest.mark.parametrize(
    ("fields", "serves"),
    [
        ({"kind": "image"}, ("image",)),
        ({"kinds": ["text"]}, ("text",)),
        ({"kinds": ["text", "image"]}, ("image", "text")),
        ({"kinds": ["text", "text"]}, ("text",)),
    ],
)
def test_a_model_serves_the_kinds_that_the_settings_say(fields: dict[str, Any], serves: tuple[str, ...]) -> None:
    assert config(**fields).serves == serves


def test_the_settings_of_one_tower_are_those_of_the_model() -> None:
    both = config(kinds=["image", "text"], max_batch=7, default=True)
    text = both.only("text")
    assert (text.serves, text.max_batch, text.kind) == (("text",), 7, "text")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "kind: expected kind .image or text. or kinds .*, and neither is set"),
        ({"kind": "text", "kinds": ["text"]}, "kind: expected .* and both are set"),
        ({"kinds": ["sound"]}, r"kinds\.0\n.*'image' or 'text'"),
        ({"kind": "text", "default": ["image"]}, "default: the model serves text only"),
        ({"kind": "text", "truncate": False, "overflow": "mean"}, "overflow: 'mean' contradicts truncate = false"),
        ({"kind": "text", "overflow": "drop"}, "overflow\n"),
        ({"kind": "text", "dimensions": 5}, "dimensions: 5 is not among the lengths in matryoshka"),
        ({"kind": "text", "dimensions": 5, "matryoshka": [6]}, "dimensions: 5 is not among"),
        ({"kind": "text", "matryoshka": [0]}, "matryoshka"),
        ({"kind": "text", "pooling": "median"}, "pooling"),
        ({"kind": "text", "trust_remote_code": True}, "trust_remote_code"),
        ({"kind": "text", "colour": 1}, "colour"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(**fields)


@pytest.mark.parametrize(
    ("fields", "overflow"),
    [
        ({}, "truncate"),
        ({"truncate": False}, "refuse"),
        ({"truncate": False, "overflow": "refuse"}, "refuse"),
        ({"truncate": True, "overflow": "refuse"}, "refuse"),
        ({"overflow": "mean"}, "mean"),
    ],
)
def test_truncate_is_another_spelling_of_overflow(fields: dict[str, Any], overflow: str) -> None:
    assert config(kind="text", **fields).beyond_limit == overflow


def test_a_default_may_be_one_of_the_kinds() -> None:
    clip = {"kinds": ["image", "text"], "backend": "open_clip", "default": ["image"]}
    minilm = {"kind": "text", "backend": "transformers", "default": True}
    settings = Settings.model_validate({"models": {"clip": clip, "minilm": minilm}})
    assert (settings.default_model("image"), settings.default_model("text")) == ("clip", "minilm")
    with pytest.raises(ValueError, match="more than one default text model: clip, minilm"):
        Settings.model_validate({"models": {"clip": clip | {"default": True}, "minilm": minilm}})
    with pytest.raises(ValueError, match="more than one default text model: clip, minilm"):
        Settings.model_validate({"models": {"clip": clip | {"default": ["text"]}, "minilm": minilm}})


def test_a_model_of_both_kinds_is_the_only_one_of_each() -> None:
    clip = {"kinds": ["image", "text"], "backend": "open_clip"}
    settings = Settings.model_validate({"models": {"clip": clip}})
    assert settings.default_model("image") == settings.default_model("text") == "clip"


def test_kinds_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGIT_MODELS__CLIP__KINDS", '["image", "text"]')
    monkeypatch.setenv("LEGIT_MODELS__CLIP__BACKEND", "open_clip")
    monkeypatch.setenv("LEGIT_MODELS__CLIP__DEFAULT", "true")
    assert Settings().models["clip"].serves == ("image", "text")
    assert Settings().models["clip"].is_default("text")
