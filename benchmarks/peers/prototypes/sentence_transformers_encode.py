"""A script around sentence-transformers: `encode` over the whole list."""

from __future__ import annotations

import os

from encoder import ROWS, content, encoded
from pipe import answer, lists
from sentence_transformers import SentenceTransformer

if __name__ == "__main__":
    model = SentenceTransformer(os.environ["PEER_MODEL"], device="cpu")
    for tasks in lists():
        vectors = model.encode([content(task) for task in tasks], batch_size=ROWS, show_progress_bar=False)
        for task, vector in zip(tasks, vectors, strict=True):
            answer(task, encoded(vector))
