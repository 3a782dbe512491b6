"""The size and the search quality of every encoding of vectors.

MiniLM embeds the paragraphs of the Python reference; every tenth is a query. Recall@10 is the share of the ten nearest
paragraphs by fp32 vectors that are also among the ten nearest by the decoded ones. Bytes are what a result entry takes
in a stream of an embedded Valkey.

    python -m benchmarks.encodings
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import minilm
from benchmarks.report import arguments, show
from legit_embedding.encoding import CODECS, decode_entry, encode_entry, encode_finite
from legit_embedding.models.transformers import TransformersModel
from legit_embedding.wire.result import Embedded, Origin, Result, Timings
from legit_embedding.wire.task import Address
from tests.servers import Server

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAREST, CANDIDATES, QUERY_EVERY, BATCH = 10, 40, 10, 64
PARAGRAPH = 40
"""Characters; what is shorter is a heading."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=3000)
    minilm.add_option(parser)
    options = parser.parse_args()
    texts = paragraphs(options.texts)
    vectors = embedded(texts, options.text_model)
    rows = [_row(encoding, vectors) for encoding in CODECS]
    show(f"{len(texts)} paragraphs, {vectors.shape[1]} values each", rows, {}, options.json)


def paragraphs(most: int) -> list[str]:
    """Different paragraphs of the Python reference, in a fixed order."""
    blocks = (" ".join(block.split()) for name in sorted(topics) for block in topics[name].split("\n\n"))
    return list(dict.fromkeys(block for block in blocks if len(block) >= PARAGRAPH))[:most]


def embedded(texts: list[str], text_model: str) -> NDArray[np.float32]:
    """Their vectors, shape ``[texts, dim]``."""
    model = TransformersModel("minilm", minilm.config(text_model))
    model.load(torch.device("cpu"), torch.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    recipe, found = model.recipe(), {}
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            arrays = [item.array for item in recipe.texts([texts[number] for number in batch])]
            found.update(zip(batch, model.forward(model.collate(arrays)).numpy(), strict=True))
    return np.stack([found[number] for number in range(len(texts))])


def _row(encoding: str, vectors: NDArray[np.float32]) -> dict[str, Any]:
    decoded = np.stack([decode_entry(encode_entry(vector, encoding)) for vector in vectors])
    queries = slice(None, None, QUERY_EVERY)
    wanted = _nearest(vectors[queries], vectors, NEAREST)
    candidates = _nearest(decoded[queries], decoded, CANDIDATES)
    scores = np.einsum("qd,qcd->qc", vectors[queries], vectors[candidates])
    again = np.take_along_axis(candidates, np.argsort(-scores, axis=1)[:, :NEAREST], axis=1)
    cosines = (vectors * decoded).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(decoded, axis=1)
    return {
        "encoding": encoding,
        "bytes per vector": len(encode_finite(vectors[0], encoding).text),
        "bytes per entry": float(_bytes_per_entry(encoding, vectors)),
        "least cosine": f"{cosines.min():.5f}",
        "recall@10": f"{_recall(_nearest(decoded[queries], decoded, NEAREST), wanted):.3f}",
        "again in fp32": f"{_recall(again, wanted):.3f}",
    }


def _nearest(queries: NDArray[np.float32], vectors: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """The nearest other vectors of every query, best first: shape ``[queries, count]``."""
    scores = queries @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    scores[np.arange(len(queries)), np.arange(len(queries)) * QUERY_EVERY] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _recall(found: NDArray[np.intp], wanted: NDArray[np.intp]) -> float:
    return float(np.mean([len(set(here) & set(there)) / NEAREST for here, there in zip(found, wanted, strict=True)]))


def _bytes_per_entry(encoding: str, vectors: NDArray[np.float32]) -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        Server("valkey", Path(folder)) as server,
        server.client() as client,
    ):
        for number, vector in enumerate(vectors):
            encoded = encode_finite(vector, encoding)
            outcome = Embedded("text", "minilm", len(vector), encoding, encoded.text, scale=encoded.scale)
            result = Result(Address(str(number)), Origin("stream", f"{number}-0"), outcome, Timings(1, 12, 30))
            client.xadd("results", result.fields("gpubatch@pod-1"))
        return client.memory_usage("results", samples=0) / len(vectors)


if __name__ == "__main__":
    main()
