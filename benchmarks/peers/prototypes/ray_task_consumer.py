"""Ray Serve's Celery `task_consumer` on Redis, in front of a deployment with dynamic batches.

The adapter takes synchronous handlers only, so each task in a batch holds one of its threads.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import ray
import redis
from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorConfig
from ray.serve.task_consumer import task_consumer, task_handler
from ray_model import Model

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

URL = os.environ["PEER_REDIS_URL"]
CONFIG = TaskProcessorConfig(
    queue_name="embedding",
    adapter_config=CeleryAdapterConfig(
        broker_url=URL,
        backend_url=URL,
        broker_transport_options={"visibility_timeout": int(os.environ["PEER_VISIBILITY_S"])},
        app_custom_config={"worker_prefetch_multiplier": 2, "worker_hijack_root_logger": False},
    ),
)


@serve.deployment(max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
@task_consumer(task_processor_config=CONFIG)
class Consumer:
    """Takes tasks, and writes answers."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model
        self._redis = redis.Redis.from_url(URL)

    @task_handler(name="embed")
    def embed(self, task: dict[str, Any]) -> None:
        """Answer one task; Celery acknowledges it afterwards."""
        vector = self._model.remote(task).result()
        self._redis.xadd("embedding_results", {"task_id": task["task_id"], "status": "ok", "embedding": vector})


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, _temp_dir=os.environ["PEER_FOLDER"])
    serve.run(Consumer.bind(Model.bind()))
    threading.Event().wait()
