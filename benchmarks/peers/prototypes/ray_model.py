"""The model as a Ray Serve deployment with dynamic batches."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve


@serve.deployment(max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
class Model:
    """One replica: one copy of the weights."""

    def __init__(self) -> None:
        from encoder import load

        self._model = load()

    @serve.batch(max_batch_size=128, batch_wait_timeout_s=0.005)
    async def __call__(self, tasks: list[dict[str, Any]]) -> list[str]:
        """Embed the tasks that were waiting."""
        return await asyncio.to_thread(self._model, tasks)
