from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError
from legit_embedding.models.encoders import BpeEncoder
from legit_embedding.models.open_clip import OpenClipModel
from legit_embedding.models.registry import Registry
from tests.texts import texts, words
from tests.unit.models.open_clips import add_models

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
NAMES = ("tiny-eva02", "tiny-vit", "tiny-siglip", "tiny-siglip2", "tiny-coca", "tiny-roberta", "tiny-clipa", "tiny-eos")
PACKED = frozenset({"tiny-eva02", "tiny-vit", "tiny-roberta", "tiny-eos"})
ODD = [
    "",
    " ",
    "a red bicycle",
    "A RED, red Bicycle!",
    "an  astronaut\n rides\ta horse",
    "👩‍👩‍👧 🚲 🏽",
    "日本語のテキスト",
    "caf\u00e9 cafe\u0301 &amp; na\u00efve &lt;b&gt;",
    "â€œmojibakeâ€\x9d",
    "it's they're we've",
    "<end_of_text> and more <start_of_text>",
    "</s> <pad> <eos>",
    "one <bos> within",
    "punctuation_only ... !!! ???",
    "word " * 200,
    "supercalifragilistic" * 30,
    "12345 67.89",
]
MANY = ODD + texts(300 - len(ODD), 1, 150)


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    add_models(tmp_path_factory.mktemp("open_clips"))


def both(name: str, **settings: Any) -> Registry:
    fields = {"kinds": ["image", "text"], "backend": "open_clip", "name": name, "pretrained": "random:7"} | settings
    if "kind" in settings:
        del fields["kinds"]
    return Registry({"clip": ModelConfig.model_validate(fields)})


def library_model(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return open_clip.create_model(name, load_weights=False, pretrained_text=False).eval()


def embed(backend: Any, batch: list[str]) -> torch.Tensor:
    arrays = [item.array for item in backend.recipe().texts(batch)]
    with torch.inference_mode():
        vectors: torch.Tensor = backend.forward(backend.collate(arrays))
    return vectors


@pytest.mark.parametrize("name", NAMES)
def test_texts_and_images_are_embedded_as_open_clip_does(name: str) -> None:
    registry = both(name)
    assert registry.queues() == ("clip (image)", "clip (text)")
    for backend in registry.backends().values():
        backend.load(CPU, torch.float32)
    whole = library_model(name)
    with torch.inference_mode():
        wanted = whole.encode_text(open_clip.get_tokenizer(name)(MANY), normalize=True)
    found = torch.cat([embed(registry["clip (text)"], MANY[start : start + 50]) for start in range(0, len(MANY), 50)])
    assert found.shape == wanted.shape == (300, registry["clip (text)"].dim)
    assert functional.cosine_similarity(found, wanted).min() >= 0.9999
    assert torch.allclose(found.norm(dim=1), torch.ones(300), atol=1e-5)

    image = registry["clip (image)"]
    arrays = image.samples(3)
    pixels = functional.normalize(image.forward(image.collate(arrays)))
    with torch.inference_mode():
        reference = whole.encode_image(image._pixels.read(image.collate(arrays)["pixels"], torch.float32))  # type: ignore[attr-defined]
    assert functional.cosine_similarity(pixels, reference).min() >= 0.9999


@pytest.mark.parametrize("name", NAMES)
def test_towers_that_allow_it_pack_by_length_and_the_others_fill_up(name: str) -> None:
    backend: Any = both(name, kind="text")["clip"]
    short, long = backend.recipe().texts(["a red bicycle", "word " * 200])
    assert long.truncated
    assert (short.cost < long.cost) is (name in PACKED)
    assert long.cost == len(long.array) == backend.recipe().max_tokens == open_clip.get_tokenizer(name).context_length
    sizes = {backend.collate(backend.samples(cost))["input_ids"].shape[1] for cost in (1, 20, 500)}
    assert (len(sizes) > 1) is (name in PACKED)
    assert backend.collate(backend.samples(500))["input_ids"].max() < backend._vocabulary


def test_one_half_alone_answers_as_it_does_beside_the_other() -> None:
    registry = both("tiny-vit")
    for backend in registry.backends().values():
        backend.load(CPU, torch.float32)
    alone: Any = both("tiny-vit", kind="text")["clip"]
    alone.load(CPU, torch.float32)
    assert torch.equal(embed(alone, ODD), embed(registry["clip (text)"], ODD))
    assert alone.digest == registry["clip (text)"].digest == registry["clip (image)"].digest != ""  # type: ignore[attr-defined]


def test_two_towers_of_one_checkpoint_are_in_memory_once(added_bytes: Callable[[], int]) -> None:
    registry = both("tiny-eva02")
    for backend in registry.backends().values():
        backend.load(CPU, torch.float32)
    del backend
    whole = library_model("tiny-eva02")
    weights = sum(parameter.nbytes for parameter in whole.parameters())
    del whole
    gc.collect()
    assert 0.99 * weights <= added_bytes() < 1.02 * weights


def test_half_precision_is_close() -> None:
    backend: Any = both("tiny-vit", kind="text")["clip"]
    backend.load(CPU, torch.bfloat16)
    exact: Any = both("tiny-vit", kind="text")["clip"]
    exact.load(CPU, torch.float32)
    assert functional.cosine_similarity(embed(backend, MANY[:40]), embed(exact, MANY[:40])).min() > 0.998
    assert backend.digest == exact.digest


def test_what_a_tokenizer_remembers_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("legit_embedding.models.encoders._WORDS", 50)
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    encoder = BpeEncoder(tokenizer)
    for word in sorted({word.lower() for word in words() if word.isalpha()})[:200]:
        encoder([word])
        assert len(tokenizer.cache) <= 60
    assert encoder(["a <end_of_text> b"])[0] == [49406, *tokenizer.encode("a <end_of_text> b"), 49407]


def test_prompts_and_the_limit_of_a_text_tower() -> None:
    backend: Any = both("tiny-vit", kind="text", prompts={"photo": "a photo of "}, max_tokens=8)["clip"]
    recipe = backend.recipe()
    with_prompt, plain = recipe.texts(["cats", "a photo of cats"], ["photo", None])
    assert np.array_equal(with_prompt.array, plain.array)
    assert recipe.texts(["word " * 20])[0].cost == 8
    with pytest.raises(ConfigError, match=r"^models\.clip\.max_tokens: the model has only 77 positions"):
        both("tiny-vit", kind="text", max_tokens=78)["clip"].recipe()
    with pytest.raises(ConfigError, match=r"^models\.clip\.max_tokens: the model always reads its whole context of 64"):
        both("tiny-siglip", kind="text", max_tokens=8)["clip"].recipe()
    with pytest.raises(
        ConfigError, match=r"^models\.clip\.default_prompt: 'x' is none of the prompts \(there are none"
    ):
        both("tiny-vit", kind="text", default_prompt="x")["clip"].recipe()


def test_a_tokenizer_that_is_not_there_names_the_setting() -> None:
    with pytest.raises(
        ConfigError, match=r"^models\.clip\.name: cannot load the tokenizer of 'ViT-B-16-SigLIP'"
    ) as caught:
        both("ViT-B-16-SigLIP", kind="text")["clip"].recipe()
    assert "\n" not in str(caught.value)


def test_forward_before_load_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="before load"):
        both("tiny-vit", kind="text")["clip"].forward({})


def test_the_front_door_makes_a_backend_for_each_kind_named() -> None:
    config = ModelConfig.model_validate({"kinds": ["text"], "backend": "open_clip", "name": "tiny-vit"})
    assert list(OpenClipModel.towers("clip", config)) == ["text"]
