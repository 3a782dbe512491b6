"""Ray Serve with `@serve.batch`, fed from the task stream through a deployment handle."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import ray
from bridge import serve as bridge
from ray import serve
from ray_model import Model


async def main() -> None:
    """Start Ray and the deployment, and feed it for ever."""
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, _temp_dir=os.environ["PEER_FOLDER"])
    handle = serve.run(Model.bind())

    async def embed(task: dict[str, Any]) -> str:
        return await handle.remote(task)

    await bridge(embed)


if __name__ == "__main__":
    asyncio.run(main())
