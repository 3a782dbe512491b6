"""Our vectors against `SentenceTransformer.encode`, on small models that the library itself has saved."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as models
from transformers import AutoConfig, AutoModel

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError, TaskError
from legit_embedding.models.transformers import TransformersModel
from tests.texts import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CPU = torch.device("cpu")
BATCH = ["a", "A man is eating food.", "word " * 200, *texts(6, 1, 60), "日本語 é 👩‍👩‍👧"]
MODES = ("mean", "cls", "lasttoken", "max", "weightedmean", "mean_sqrt_len_tokens")
PROMPTS = {"query": "query: ", "document": "Represent the document for retrieval: "}
LAYERS: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [models.Dense(32, 16)],
    "dense without activation or bias": lambda: [
        models.Dense(32, 48, bias=False, activation_function=torch.nn.Identity()),
        models.Dense(48, 32, bias=False, activation_function=torch.nn.Identity()),
        models.Normalize(),
    ],
    "dense with a residual": lambda: [models.Dense(32, 16, use_residual=True, activation_function=torch.nn.GELU())],
    "layer norm": lambda: [models.LayerNorm(32)],
    "normalised in between": lambda: [models.Normalize(), models.Dense(32, 16, activation_function=torch.nn.ReLU())],
    "dropout": lambda: [models.Dropout(0.5), models.Normalize()],
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A small BERT with MiniLM's tokenizer and random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(minilm / name, folder / name)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


def saved(encoder: Path, folder: Path, pooling: Any, after: Sequence[Any] = (), **settings: Any) -> SentenceTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        for layer in after:
            for parameter in layer.parameters():
                torch.nn.init.normal_(parameter)
    transformer = models.Transformer(str(encoder), max_seq_length=64)
    made = SentenceTransformer(modules=[transformer, pooling, *after], device="cpu", **settings)
    made.save_pretrained(str(folder))
    return SentenceTransformer(str(folder), device="cpu")


def model(name: Path, *, load: bool = True, **settings: Any) -> TransformersModel:
    fields = {"kind": "text", "backend": "transformers", "name": str(name)} | settings
    made = TransformersModel("m", ModelConfig.model_validate(fields))
    if load:
        made.load(CPU, torch.float32)
    return made


def embed(made: TransformersModel, batch: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
    arrays = [item.array for item in made.recipe().texts(batch, [prompt] * len(batch))]
    with torch.inference_mode():
        vectors: NDArray[np.float32] = made.forward(made.collate(arrays)).numpy()
    assert vectors.shape == (len(batch), made.dim)
    return vectors


def least_cosine(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    assert found.shape == wanted.shape
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(((found * wanted).sum(axis=1) / norms).min())


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", [*MODES, ("cls", "max", "mean")])
def test_each_pooling_with_and_without_the_prompt(
    encoder: Path, tmp_path: Path, mode: Any, include_prompt: bool
) -> None:
    pooling = models.Pooling(32, pooling_mode=mode, include_prompt=include_prompt)
    theirs = saved(encoder, tmp_path, pooling, prompts=PROMPTS)
    ours = model(tmp_path)
    for prompt in (None, "query", "document"):
        wanted = theirs.encode(BATCH, batch_size=4, prompt_name=prompt, show_progress_bar=False)
        assert least_cosine(embed(ours, BATCH, prompt), wanted) >= 0.9999, prompt
    together, alone = embed(ours, BATCH, "query"), [embed(ours, [text], "query") for text in BATCH]
    assert np.allclose(together, np.concatenate(alone), atol=1e-5)


def test_the_settings_pooling_counts_more_than_the_models(encoder: Path, tmp_path: Path) -> None:
    saved(encoder, tmp_path, models.Pooling(32, pooling_mode="mean"))
    for ours, theirs in (("max", "max"), ("mean_sqrt_len", "mean_sqrt_len_tokens"), ("last", "lasttoken")):
        reference = saved(encoder, tmp_path / ours, models.Pooling(32, pooling_mode=theirs))
        wanted = reference.encode(BATCH, show_progress_bar=False)
        assert np.allclose(embed(model(tmp_path, pooling=ours, normalize=False), BATCH), wanted, atol=1e-4)
    outputs = AutoModel.from_pretrained(encoder).eval()
    made = model(tmp_path, pooling="pooler")
    ids = torch.tensor(made.recipe().texts(["a"])[0].array)[None]
    with torch.inference_mode():
        assert least_cosine(embed(made, ["a"]), outputs(ids).pooler_output.numpy()) >= 0.9999


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("normalize", [True, False])
def test_each_kind_of_layer_after_the_pooling(encoder: Path, tmp_path: Path, name: str, normalize: bool) -> None:
    theirs = saved(encoder, tmp_path, models.Pooling(32), LAYERS[name]())
    ours = model(tmp_path, normalize=normalize)
    wanted = theirs.encode(BATCH, normalize_embeddings=normalize, show_progress_bar=False)
    found = embed(ours, BATCH)
    assert least_cosine(found, wanted) >= 0.9999
    if normalize or "Normalize" not in str(theirs[-1]):
        assert np.allclose(found, wanted, atol=1e-4)
    assert ours.dim == theirs.get_embedding_dimension()


def test_the_models_own_prompts_and_default_are_used_and_the_settings_go_before(encoder: Path, tmp_path: Path) -> None:
    theirs = saved(encoder, tmp_path, models.Pooling(32), prompts=PROMPTS, default_prompt_name="document")
    wanted = {
        name: theirs.encode(BATCH, prompt=text, show_progress_bar=False)
        for name, text in {**PROMPTS, "none": "", "mine": "mine: "}.items()
    }
    assert least_cosine(embed(model(tmp_path), BATCH), theirs.encode(BATCH, show_progress_bar=False)) >= 0.9999
    for settings, prompt, name in (
        ({}, None, "document"),
        ({}, "query", "query"),
        ({"default_prompt": "query"}, None, "query"),
        ({"default_prompt": ""}, None, "none"),
        ({"prompts": {"query": "mine: "}}, "query", "mine"),
        ({"prompts": {"query": "mine: "}}, None, "document"),
        ({"prompts": {"x": "mine: "}, "default_prompt": "x"}, None, "mine"),
    ):
        made = model(tmp_path, **settings)
        assert least_cosine(embed(made, BATCH, prompt), wanted[name]) >= 0.9999, (settings, prompt)


def test_a_prompt_that_is_not_there_is_refused_with_the_known_ones(encoder: Path, tmp_path: Path) -> None:
    saved(encoder, tmp_path, models.Pooling(32), prompts=PROMPTS)
    with pytest.raises(TaskError) as caught:
        model(tmp_path, load=False).recipe().texts(["a", "b"], [None, "quarry"])
    assert caught.value.code == "invalid_task"
    assert caught.value.detail == "prompt_name: the model has no prompt 'quarry'; known prompts: document, query"
    with pytest.raises(ConfigError, match=r"^models\.m\.default_prompt: 'x' is none of the prompts \(document, query"):
        model(tmp_path, load=False, default_prompt="x").recipe()


def with_modules(encoder: Path, folder: Path, *modules: dict[str, str]) -> Path:
    shutil.copytree(encoder, folder, dirs_exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def module(kind: str, path: str = "") -> dict[str, str]:
    return {"idx": "0", "name": "0", "path": path, "type": kind}


OURS = "sentence_transformers.models"
BERT, POOLING = module(f"{OURS}.Transformer"), module(f"{OURS}.Pooling", "1_Pooling")


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([BERT, POOLING, module(f"{OURS}.CNN", "2")], r"a layer CNN which is not known here \(only Dense, LayerNorm"),
        ([BERT, POOLING, module("modeling.Dense", "2")], r"a layer modeling\.Dense which is not known here"),
        ([module("custom_st.Transformer"), POOLING], r"pass through custom_st\.Transformer before the pooling; use"),
        ([module(f"{OURS}.StaticEmbedding")], "pass through StaticEmbedding before the pooling; use a model of"),
        ([module(f"{OURS}.CLIPModel")], "pass through CLIPModel before the pooling; use a model of"),
        ([BERT, module(f"{OURS}.WordWeights", "1"), POOLING], "pass through Transformer, WordWeights before"),
        ([BERT, POOLING, module(f"{OURS}.Dense", "2_Dense")], r"its layer Dense in 2_Dense does not say its 'in_feat"),
    ],
)
def test_what_a_model_does_beside_that_is_not_left_out_silently(
    encoder: Path, tmp_path: Path, modules: list[dict[str, str]], reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^models\.m\.name: cannot load '.*': .*{reason}"):
        model(with_modules(encoder, tmp_path, *modules))


def test_a_layers_own_code_is_not_run_and_its_weights_have_to_fit(encoder: Path, tmp_path: Path) -> None:
    folder = with_modules(encoder, tmp_path, BERT, POOLING, module(f"{OURS}.Dense", "2_Dense"))
    dense = folder / "2_Dense"
    dense.mkdir()
    config = {"in_features": 32, "out_features": 16, "bias": True, "activation_function": "torch.nn.modules.Tanh"}
    (dense / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"^models\.m\.name: .*the weights of its layer in 2_Dense are not there"):
        model(folder)
    save_file({"linear.weight": torch.zeros(16, 31)}, dense / "model.safetensors")
    with pytest.raises(ConfigError, match=r"^models\.m\.name: .*weights of its layer Dense in 2_Dense do not fit"):
        model(folder)
    for activation in ("os.system", "torch.hub.load", "torch.nn.functional"):
        (dense / "config.json").write_text(json.dumps(config | {"activation_function": activation}))
        with pytest.raises(ConfigError, match=rf"activation '{activation}' of its layer Dense is none of torch's"):
            model(folder)
