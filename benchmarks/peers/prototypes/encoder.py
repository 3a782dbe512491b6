"""The model code that every prototype without model code of its own shares: MiniLM for texts, CLIP for photos.

It does what sentence-transformers' `encode` does: sort by length, small batches, one place for each answer.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Task = dict[str, Any]

ROWS = int(os.environ.get("PEER_ROWS", "16"))
"""The texts or photos per forward pass: the fastest of 8, 16, 32 and 64 on two cores."""


def load() -> Callable[[Sequence[Task]], list[str]]:
    """The model of this run, as a function from tasks to encoded vectors."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return Photos() if os.environ["PEER_KIND"] == "image" else Texts()


class Texts:
    """MiniLM: mean pooling over at most 256 tokens, vectors of length 1."""

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = os.environ["PEER_MODEL"]
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def __call__(self, tasks: Sequence[Task]) -> list[str]:
        """Embed some texts."""
        texts = [task["text"] for task in tasks]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        answers = [""] * len(texts)
        for start in range(0, len(order), ROWS):
            places = order[start : start + ROWS]
            vectors = self._forward([texts[place] for place in places])
            for place, vector in zip(places, vectors, strict=True):
                answers[place] = encoded(vector)
        return answers

    @torch.inference_mode()
    def _forward(self, texts: list[str]) -> np.ndarray:
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        hidden = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).float()
        return normalize((hidden * mask).sum(1) / mask.sum(1)).numpy()


class Photos:
    """CLIP's image tower with seeded random weights."""

    def __init__(self) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        folder = os.environ["PEER_MODEL"]
        self._processor = CLIPImageProcessor.from_pretrained(folder)
        self._model = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def __call__(self, tasks: Sequence[Task]) -> list[str]:
        """Embed some photos, given as paths."""
        answers: list[str] = []
        for start in range(0, len(tasks), ROWS):
            photos = [content(task) for task in tasks[start : start + ROWS]]
            pixels = self._processor(images=photos, return_tensors="pt")
            answers += map(encoded, normalize(self._model(**pixels).image_embeds).numpy())
        return answers


def content(task: Task) -> Any:  # noqa: ANN401 - a string or a picture
    """The content of a task: its text, or its photo."""
    from PIL import Image

    return task["text"] if "text" in task else Image.open(task["image_path"]).convert("RGB")


def encoded(vector: np.ndarray) -> str:
    """A vector as the contract writes it."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
