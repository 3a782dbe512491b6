from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from legit_embedding.config import ModelConfig, RemoteConfig, load_settings
from legit_embedding.errors import ConfigError, TaskError
from legit_embedding.models.registry import Registry
from legit_embedding.remote.errors import OutageError
from legit_embedding.remote.model import RemoteModel
from legit_embedding.remote.processor import RemoteProcessor


def config(**settings: Any) -> ModelConfig:
    return ModelConfig(**({"kind": "text", "backend": "http", "base_url": "http://far:8080"} | settings))


@pytest.mark.parametrize(
    ("backend", "base_url", "url"),
    [
        ("http", "http://far:8080", "http://far:8080/embed"),
        ("http", "https://far/models/", "https://far/models/embed"),
        ("openai", "https://far", "https://far/v1/embeddings"),
        ("openai", "https://far/v1/", "https://far/v1/embeddings"),
        ("openai", "https://far/openai/v1", "https://far/openai/v1/embeddings"),
        ("ollama", "http://far:11434", "http://far:11434/api/embed"),
    ],
)
def test_the_route_is_below_the_base_url(backend: str, base_url: str, url: str) -> None:
    assert RemoteModel("far", config(backend=backend, base_url=base_url)).url == url


@pytest.mark.parametrize(
    "url",
    [
        *("far:8080", "ftp://far", "http://", "http://user@far", "http://user:secret@far", "http://far/?key=secret"),
        *("http://far#secret", "http://far:secret", "http://far:0", "http://[far", "http://far\n", "unix:///far"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an address like") as caught:
        config(base_url=url)
    assert all("secret" not in error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"pretrained": "random:1"}, "pretrained"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"weight": 2.0}, "weight"),
        ({"base_url": ""}, "base_url"),
        ({"token": "a", "token_file": "b"}, "token_file"),
        ({"backend": "transformers"}, "base_url"),
        ({"backend": "transformers", "base_url": "", "timeout_s": 3.0}, "base_url"),
        ({"dimensions": 64, "matryoshka": [128]}, "matryoshka"),
    ],
)
def test_a_setting_of_the_other_sort_of_model_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}: "):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "ollama", "kind": "image"}, r"models\.far\.kind: the backend 'ollama' embeds texts only"),
        ({"backend": "openai", "default_prompt": "query"}, r"models\.far\.default_prompt: 'query' is none of"),
        ({"token": "a\nb"}, r"models\.far\.token: the token holds characters"),
        ({"token_file": "/no/such/file"}, r"models\.far\.token_file: /no/such/file cannot be read: No such file"),
    ],
)
def test_a_setting_that_does_not_fit_is_a_config_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Registry({"far": config(**settings)}).remotes()
    assert "a\nb" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"proxy": "secret"}, r"remote\.proxy: expected"), ({"ca_file": "/no/such/file"}, r"remote\.ca_file: /no/such")],
)
def test_a_client_that_cannot_be_made_is_a_config_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        RemoteProcessor({"far": RemoteModel("far", config())}, RemoteConfig(**settings), 1)
    assert "secret" not in str(caught.value)


def test_a_token_from_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legit.toml").write_text("[models.far]\nkind='text'\nbackend='http'\nbase_url='http://far'\n")
    monkeypatch.setenv("LEGIT_MODELS__FAR__TOKEN", "s3cret")
    settings = load_settings()
    model = RemoteModel("far", settings.models["far"])
    assert model.headers()["authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(settings) + str(settings.model_dump()) + repr(vars(model))


def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    model = RemoteModel("far", config(token_file=file))
    assert model.headers()["authorization"] == "Bearer one"
    file.write_text("two\n")
    assert model.headers()["authorization"] == "Bearer two"
    file.unlink()
    with pytest.raises(OutageError, match="cannot be read: No such file"):
        model.headers()


def test_both_kinds_have_a_model_each() -> None:
    registry = Registry({"far": config(kind=None, kinds=("image", "text"))})
    assert {queue: model.kind for queue, model in registry.remotes().items()} == {
        "far (image)": "image",
        "far (text)": "text",
    }
    assert registry.backends() == {}
    with pytest.raises(ConfigError, match="has not answered yet"):
        registry.dim("far")


PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt": "passage"}


class TestPrompts:
    @pytest.mark.parametrize("backend", ["http", "openai", "ollama"])
    def test_prompts_of_the_settings_are_applied_here(self, backend: str) -> None:
        recipe = RemoteModel("far", config(backend=backend, **PROMPTS)).recipe()
        items = recipe.texts(["one", "two"], ["query", None])
        assert [item.array.tobytes() for item in items] == [b'"query: one"', b'"passage: two"']
        assert [item.prompt_name for item in items] == [None, None]  # type: ignore[attr-defined]
        with pytest.raises(TaskError, match="no prompt 'other'"):
            recipe.texts(["one"], ["other"])

    def test_without_them_http_is_told_the_name(self) -> None:
        items = RemoteModel("far", config(default_prompt="passage")).recipe().texts(["one", "two"], ["query", None])
        assert [item.array.tobytes() for item in items] == [b'"one"', b'"two"']
        assert [item.prompt_name for item in items] == ["query", "passage"]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("backend", ["openai", "ollama"])
    def test_without_them_the_others_know_none(self, backend: str) -> None:
        with pytest.raises(TaskError, match="no prompt 'query'"):
            RemoteModel("far", config(backend=backend)).recipe().texts(["one"], ["query"])


class TestDimensions:
    def test_a_length_that_is_not_cut_here_is_asked_for(self) -> None:
        model = RemoteModel("far", config(dimensions=64, matryoshka=(32,)))
        assert (model.dimension, model.config.asked_dimensions) == (64, 64)

    def test_a_length_that_is_cut_here_is_not(self) -> None:
        model = RemoteModel("far", config(dimensions=64, matryoshka=(64, 128)))
        assert (model.dimension, model.config.asked_dimensions) == (None, None)

    def test_a_task_may_ask_for_it(self) -> None:
        tower = Registry({"far": config(dimensions=64, matryoshka=(32,))}).tower("far")
        assert [tower.dimensions(wanted) for wanted in (None, 64, 32)] == [64, 64, 32]
        with pytest.raises(TaskError, match="does not cut its vectors to 128"):
            tower.dimensions(128)


def test_the_settings_to_copy_fit(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "remote.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "token").write_text("s3cret")
    for block in blocks:
        models = tomllib.loads(block.replace("/run/secrets/embedder", str(tmp_path / "token")))["models"]
        assert Registry({name: ModelConfig(**settings) for name, settings in models.items()}).remotes()
