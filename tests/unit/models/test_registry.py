from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError, TaskError
from legit_embedding.models.null import NullModel
from legit_embedding.models.registry import Registry

NULL = "legit_embedding.models.null:NullModel"


def model(kind: str = "text", **settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"kind": kind, "backend": NULL} | settings)


class SlowRecipe(NullModel):
    made = 0

    def recipe(self) -> Any:
        time.sleep(0.05)
        type(self).made += 1
        return object()


class Refusing(NullModel):
    def __init__(self, name: str, config: ModelConfig) -> None:
        raise ConfigError(f"models.{name}.name: no")


def test_a_model_is_made_once_with_its_name_and_settings() -> None:
    config = model(options={"dim": 8})
    registry = Registry({"one": config})
    backend = registry["one"]
    assert isinstance(backend, NullModel)
    assert registry["one"] is backend
    assert (backend.name, backend.config, backend.dim) == ("one", config, 8)
    with pytest.raises(KeyError):
        registry["two"]


def test_names_are_in_the_order_of_the_settings() -> None:
    registry = Registry({"z": model("image"), "a": model(), "m": model("image")})
    assert registry.names() == ("z", "a", "m")
    assert registry.names("image") == ("z", "m")
    assert registry.names("text") == ("a",)


def test_resolve_takes_the_named_model_the_default_or_the_only_one() -> None:
    registry = Registry({"a": model(), "b": model(default=True), "only": model("image")})
    assert registry.resolve("a", "text").queue == "a"
    assert registry.resolve(None, "text").queue == "b"
    assert registry.resolve(None, "image").queue == "only"


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("gone", "text", "there is no model 'gone'; known text models: a, b"),
        ("pic", "text", "the model 'pic' embeds images and the task is text; known text models: a, b"),
        (None, "text", "the task names no model, and no text model is the default; known text models: a, b"),
        ("a", "image", "the model 'a' embeds texts and the task is image; known image models: pic"),
    ],
)
def test_resolve_says_which_models_there_are(name: str | None, kind: Any, detail: str) -> None:
    registry = Registry({"a": model(), "b": model(), "pic": model("image")})
    with pytest.raises(TaskError) as caught:
        registry.resolve(name, kind)
    assert caught.value.code == "unknown_model"
    assert caught.value.detail == detail


def test_resolve_without_any_model_of_the_kind() -> None:
    with pytest.raises(TaskError, match="known image models: none"):
        Registry({"a": model()}).resolve(None, "image")


@pytest.mark.parametrize("backend", ["onnx", "", "a.b", "a.b:", ":C", "a..b:C", "a b:C", "a:b.c"])
def test_a_backend_that_cannot_be_one_is_refused_at_once(backend: str) -> None:
    with pytest.raises(ConfigError, match=r"^models\.bad\.backend: .+"):
        Registry({"good": model(), "bad": model(backend=backend)})


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("no_such_package.models:Model", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("legit_embedding.models.null:Nothing", "AttributeError"),
        ("collections:OrderedDict", "is no model backend: it has no recipe, load, collate, forward, samples"),
    ],
)
def test_a_backend_that_turns_out_not_to_be_one_is_refused(backend: str, reason: str) -> None:
    registry = Registry({"bad": model(backend=backend)})
    with pytest.raises(ConfigError, match=r"^models\.bad\.backend: .+") as caught:
        registry["bad"]
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_backend_names_its_own_bad_setting() -> None:
    registry = Registry({"bad": model(backend=f"{__name__}:Refusing"), "worse": model(options={"dim": "many"})})
    with pytest.raises(ConfigError, match=r"^models\.bad\.name: no$"):
        registry["bad"]
    with pytest.raises(ConfigError, match=r"^models\.worse\.options\.dim: Input should be a valid integer"):
        registry["worse"]


@pytest.mark.parametrize("backend", ["open_clip", "transformers"])
def test_a_real_backend_refuses_what_it_does_not_have(backend: str) -> None:
    kind = "image" if backend == "open_clip" else "text"
    registry = Registry(
        {
            "option": model(kind, backend=backend, options={"colour": 1}),
            "seed": model(kind, backend=backend, pretrained="random:x"),
        }
    )
    for name, field in (("option", r"options\.colour"), ("seed", "pretrained")):
        with pytest.raises(ConfigError, match=rf"^models\.{name}\.{field}: .+"):
            registry[name]


def test_a_recipe_is_made_once_however_many_threads_ask_first() -> None:
    registry = Registry({"slow": model(backend=f"{__name__}:SlowRecipe")})
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(registry.recipe("slow"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert SlowRecipe.made == 1


def both(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"kinds": ["text", "image"], "backend": NULL} | settings)


def test_a_model_of_both_kinds_has_two_towers_under_one_name() -> None:
    registry = Registry({"clip": both(), "words": model()})
    assert registry.names() == ("clip", "words")
    assert (registry.names("image"), registry.names("text")) == (("clip",), ("clip", "words"))
    assert registry.queues() == ("clip (image)", "clip (text)", "words")
    assert list(registry.backends()) == list(registry.queues())
    assert [registry[queue].kind for queue in registry.queues()] == ["image", "text", "text"]
    for kind in ("image", "text"):
        tower = registry.resolve("clip", kind)  # type: ignore[arg-type]
        assert (tower.queue, tower.model, tower.kind) == (f"clip ({kind})", "clip", kind)
        assert registry.tower(tower.queue) is tower
        assert tower.backend is registry[tower.queue]
    assert registry.resolve(None, "image").queue == "clip (image)"
    with pytest.raises(KeyError):
        registry["clip"]


def test_the_length_of_a_models_vectors_is_what_tasks_get_that_ask_for_none() -> None:
    registry = Registry({"clip": both(options={"dim": 8}, matryoshka=[4, 6], dimensions=6), "words": model()})
    assert (registry.dim("clip"), registry.dim("words")) == (6, 768)
    tower = registry.resolve("clip", "text")
    assert (tower.dimensions(None), tower.dimensions(4)) == (6, 4)
    with pytest.raises(TaskError, match=r"'clip' does not cut its vectors to 8; known lengths: 4, 6"):
        tower.dimensions(8)


def test_a_name_that_is_anothers_queue_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^models\.clip \(text\)\.name: .* queue of the model 'clip'; rename one"):
        Registry({"clip": both(), "clip (text)": model()})


class OneKind(NullModel):
    towers = None  # type: ignore[assignment]


def test_a_backend_of_one_kind_says_so_and_serves_it() -> None:
    path = f"{__name__}:OneKind"
    assert Registry({"one": both(backend=path, kinds=["text"])})["one"].kind == "text"
    with pytest.raises(ConfigError, match=r"^models\.one\.kinds: .* serves one kind; set kind to image or to text"):
        Registry({"one": both(backend=path)}).backends()


def test_an_unknown_model_is_told_from_one_of_the_other_kind() -> None:
    registry = Registry({"clip": both(), "words": model()})
    with pytest.raises(TaskError, match="embeds texts and the task is image; known image models: clip"):
        registry.resolve("words", "image")


def test_producers_and_the_command_line_do_not_pay_for_the_model_libraries() -> None:
    code = """
import sys
from legit_embedding.config import Settings
from legit_embedding.models.registry import Registry
registry = Registry(Settings().models)
assert registry.resolve(None, "image").queue == "eva02-l-14"
heavy = {"torch", "torchvision", "open_clip", "timm", "transformers", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
