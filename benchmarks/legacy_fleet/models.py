"""Models and transforms, straight from their libraries."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from legit_embedding.config import ModelConfig


class Model(Protocol):
    """One model: prep workers call `prepare`, its embed worker calls `load` and `embed`."""

    def prepare(self, content: bytes) -> NDArray[np.generic]:
        """Make the hand-off."""

    def load(self) -> None:
        """Load the weights."""

    def embed(self, arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Compute one batch."""


def make(config: ModelConfig) -> Model:
    """The model of these settings; anything but the two libraries becomes a stand-in."""
    return {"open_clip": Clip, "transformers": Encoder}.get(config.backend, StandIn)(config)


class Clip:
    """An image tower."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._transform = None

    def prepare(self, content: bytes) -> NDArray[np.generic]:
        """Decode and transform."""
        from PIL import Image

        if self._transform is None:
            self._transform = self._make_transform()
        return self._transform(Image.open(BytesIO(content))).numpy()

    def load(self) -> None:
        """Load the weights; random ones from the same seed as the new worker's."""
        import open_clip

        name, pretrained = self._config.name, self._config.pretrained
        seed = pretrained.removeprefix("random:")
        if seed == pretrained:
            self._model = open_clip.create_model(name, pretrained)
        else:
            torch.manual_seed(int(seed))
            self._model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        self._model.eval()

    def embed(self, arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Compute one batch."""
        with torch.inference_mode():
            return self._model.encode_image(torch.from_numpy(np.stack(arrays)), normalize=True).numpy()

    def _make_transform(self) -> Callable[[Image], torch.Tensor]:
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

        name = self._config.name
        size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
        own = open_clip.get_pretrained_cfg(name, self._config.pretrained) or {}
        merged = merge_preprocess_dict(asdict(PreprocessCfg(size=size)), own) | {"size": size}
        return image_transform_v2(PreprocessCfg(**merged), is_train=False)


class Encoder:
    """A text encoder with mean pooling, as sentence-transformers runs it."""

    MAX_TOKENS = 256

    def __init__(self, config: ModelConfig) -> None:
        self._source = _folder(config)
        self._tokenizer = None

    def prepare(self, content: bytes) -> NDArray[np.generic]:
        """Tokenise."""
        from transformers import AutoTokenizer

        if self._tokenizer is None:
            self._tokenizer = AutoTokenizer.from_pretrained(self._source)
        tokens = self._tokenizer(content.decode(), truncation=True, max_length=self.MAX_TOKENS)
        return np.array([tokens["input_ids"], tokens["attention_mask"]], np.int64)

    def load(self) -> None:
        """Load the weights."""
        from transformers import AutoModel

        self._model = AutoModel.from_pretrained(self._source).eval()

    def embed(self, arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Pad to the longest and compute one batch."""
        longest = max(array.shape[1] for array in arrays)
        padded = [np.pad(array, ((0, 0), (0, longest - array.shape[1]))) for array in arrays]
        ids, mask = (torch.from_numpy(rows) for rows in np.stack(padded, axis=1))
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            return torch.nn.functional.normalize(pooled, dim=1).numpy()


class StandIn:
    """Takes a device's time and computes nothing: the old side of the null model."""

    def __init__(self, config: ModelConfig) -> None:
        self._options = {"dim": 768, "batch_s": 0.0, "item_s": 0.0} | config.options

    def prepare(self, content: bytes) -> NDArray[np.generic]:
        """The content's checksum."""
        return np.full((2, 1), crc32(content), np.int64)

    def load(self) -> None:
        """Nothing to load."""

    def embed(self, arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Let the time pass."""
        from legit_embedding.models.null import unit_vectors

        time.sleep(self._options["batch_s"] + self._options["item_s"] * len(arrays))
        return unit_vectors(torch.tensor([int(array[0, 0]) for array in arrays]), self._options["dim"]).numpy()


def _folder(config: ModelConfig) -> str:
    """A hub id, a folder, or the folder with the configuration in an installed package."""
    source = config.pretrained or config.name
    package = source.removeprefix("package:")
    if package == source:
        return source
    root = Path(find_spec(package).submodule_search_locations[0])
    return str(min(root.rglob("config.json"), key=lambda path: len(path.parts)).parent)
