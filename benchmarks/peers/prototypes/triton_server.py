"""Triton Inference Server with its dynamic batcher, in front of the same model code, fed from the task stream.

PyTriton ships the server in its package and connects its Python backend to a function of this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import numpy as np
from bridge import serve
from encoder import load
from pytriton.client import AsyncioModelClient
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

model = load()


@batch
def infer(task: np.ndarray) -> dict[str, np.ndarray]:
    """Embed the tasks that were waiting."""
    vectors = model([json.loads(each) for each in task[:, 0]])
    return {"vector": np.array([[vector.encode()] for vector in vectors], dtype=bytes)}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def feed(url: str) -> None:
    """Send each task of the stream as one request."""
    async with AsyncioModelClient(url, "encoder", inference_timeout_s=600) as client:

        async def embed(task: dict[str, Any]) -> str:
            answer = await client.infer_sample(np.array([json.dumps(task).encode()], dtype=bytes))
            return answer["vector"][0].decode()

        await serve(embed)


if __name__ == "__main__":
    ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    addresses = dict.fromkeys(("http_address", "grpc_address", "metrics_address"), "127.0.0.1")
    workspace = f"{os.environ['PEER_FOLDER']}/triton-{os.getpid()}"
    with Triton(config=TritonConfig(**ports, **addresses), workspace=workspace) as triton:
        triton.bind(
            model_name="encoder",
            infer_func=infer,
            inputs=[Tensor(name="task", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="vector", dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=128, batcher=DynamicBatcher(max_queue_delay_microseconds=5000)),
        )
        triton.run()
        asyncio.run(feed(f"grpc://127.0.0.1:{ports['grpc_port']}"))
