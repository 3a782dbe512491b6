"""The service that one writes in an afternoon: FastAPI around sentence-transformers, or around nothing.

Runs in an environment of its own, which has no other file of this project.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import ORJSONResponse
from pydantic import BaseModel

DIMENSION = 768


class Body(BaseModel):
    """A request."""

    input: list[str]
    model: str = ""


def made() -> FastAPI:
    """The application; without a model it answers with one vector of zeros and a one."""
    app = FastAPI()
    folder = os.environ["SERVER_MODEL"]
    if not folder:
        vector = [1.0] + [0.0] * (DIMENSION - 1)

        @app.post("/v1/embeddings", response_class=ORJSONResponse)
        async def nothing(body: Body) -> Any:  # noqa: ANN401 - JSON
            return answer([vector] * len(body.input))

        return app

    from sentence_transformers import SentenceTransformer

    model, device = SentenceTransformer(folder, device="cpu"), threading.Lock()

    @app.post("/v1/embeddings", response_class=ORJSONResponse)
    def embeddings(body: Body) -> Any:  # noqa: ANN401 - JSON
        with device:  # several at once are slower: 40 threads would share two cores
            vectors = model.encode(body.input, show_progress_bar=False, normalize_embeddings=True)
        return answer(vectors.tolist())

    return app


def answer(vectors: list[list[float]]) -> ORJSONResponse:
    """OpenAI's form."""
    data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(vectors)]
    return ORJSONResponse(
        {"object": "list", "data": data, "model": "minilm", "usage": {"prompt_tokens": 0, "total_tokens": 0}}
    )


if __name__ == "__main__":
    uvicorn.run(made(), host="127.0.0.1", port=int(os.environ["SERVER_PORT"]), log_level="warning")
