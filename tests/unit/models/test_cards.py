"""Well-known models, small and with random weights, against what their cards tell people to run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from legit_embedding.config import ModelConfig, Settings
from legit_embedding.models.transformers import TransformersModel
from tests.texts import texts
from tests.unit.models.cards import CARDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BATCH = ["a", "A man is eating food.", "word " * 200, *texts(8, 1, 60), "日本語 é 👩‍👩‍👧"]
PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def embed(made: TransformersModel, batch: Sequence[str], prompt: str | None) -> NDArray[np.float32]:
    arrays = [item.array for item in made.recipe().texts(batch, [prompt] * len(batch))]
    with torch.inference_mode():
        vectors: NDArray[np.float32] = made.forward(made.collate(arrays)).numpy()
    return vectors


@pytest.mark.parametrize("name", CARDS)
def test_texts_are_embedded_as_the_card_says(name: str, tmp_path: Path) -> None:
    theirs = CARDS[name].save(tmp_path)
    ours = TransformersModel("m", ModelConfig(kind="text", backend="transformers", name=str(tmp_path)))
    ours.load(torch.device("cpu"), torch.float32)
    assert ours.recipe().max_tokens == theirs.max_seq_length == 64
    for prompt in (None, *CARDS[name].prompts):
        wanted = theirs.encode(BATCH, batch_size=5, prompt_name=prompt, normalize_embeddings=True)
        found = embed(ours, BATCH, prompt)
        assert found.shape == wanted.shape
        assert (found * wanted).sum(axis=1).min() >= 0.9999, prompt


def settings_on_the_page() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", settings_on_the_page(), ids=lambda block: block.splitlines()[0])
def test_what_the_page_tells_to_copy_are_settings(block: str) -> None:
    settings = Settings.model_validate(tomllib.loads(block))
    for model in settings.models.values():
        assert model.backend in {"open_clip", "transformers"}
        assert model.serves
