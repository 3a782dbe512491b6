"""Three workers on one group, behind a proxy, on a server of their own."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.clients import Client
from tests.proxy import Proxy
from tests.servers import Server
from tests.soak import PATIENCE_S
from tests.soak.tally import RESULTS, Outcomes
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from tests.servers import ServerKind

TASK_STREAM, GROUP, DEAD_LETTER = "embedding_tasks", "embedding_workers", "embedding_tasks:dead"
CLAIM_IDLE_MS = 1500
STALL_S = 3 * CLAIM_IDLE_MS / 1000
VISIBILITY_S = 2
HANDS = 64
"""How many entries a worker has in the works at most."""
NULL = "legit_embedding.models.null:NullModel"
STALLING = {"backend": "tests.faulty_model:FaultyModel", "options": {"stall_s": STALL_S, "kill": ""}}
CONFIG = {
    "models": {
        # 100 a second and worker: slow enough for harm to come in the middle.
        "null": {"kind": "text", "backend": NULL, "default": True, "max_batch": 16, "options": {"batch_s": 0.16}},
        "image": {"kind": "image", "backend": NULL},
        "stall": {"kind": "text", **STALLING},
    },
    "streams": {"claim_idle_ms": CLAIM_IDLE_MS},
    "engine": {"max_in_flight": HANDS},
}
ARGS = ("-n", "%n@soak", "--without-mingle", "--without-gossip")
PROFILE = f"""
from tests.profile import *
# kombu looks for unacknowledged messages every 100 s by default.
broker_transport_options = {{
    "visibility_timeout": {VISIBILITY_S}, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
}}
"""


class Fleet:
    """The workers, the server and the producer of a scenario.

    Args:
        kind: which server.
        directory: for everything it writes.
        size: how many workers.
        config: the workers' settings.
        seed: for the proxy's cuts.
    """

    def __init__(
        self, kind: ServerKind, directory: Path, size: int = 3, config: Mapping[str, Any] = CONFIG, seed: int = 0
    ) -> None:
        self.server = Server(kind, directory / kind, durable=True)
        self.proxy = Proxy(self.server.url, seed=seed)
        self.size = size
        self.workers: list[Worker] = []
        self._directory = directory
        self._config = config
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            stack.enter_context(self.proxy)
            (self._directory / "soon.py").write_text(PROFILE)
            for number in range(1, self.size + 1):
                self.workers.append(self.make(f"worker-{number}"))
                stack.callback(self.workers[-1].kill)
            self._stack = stack.pop_all()
        self.client = Client(self.server.url)
        self.redis = self.server.client(encoding_errors="surrogateescape")
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.close()

    @property
    def name(self) -> str:
        """The server and its version."""
        info = self.redis.info("server")
        return f"{self.server.kind} {info.get(f'{self.server.kind}_version')}"

    def ready(self) -> Self:
        """Every worker runs, nothing is left of what was before, and no connection is to be cut."""
        self.server.restore()
        self.calm()
        for worker in self.workers:
            if not worker.running:
                worker.start()
        for worker in self.workers:
            worker.wait_ready()
        wait_for(lambda: self.left() == 0, PATIENCE_S, "an empty task stream")
        self.redis.delete(DEAD_LETTER, *self.redis.scan_iter(match=RESULTS))
        return self

    def make(self, name: str, env: Mapping[str, str] | None = None) -> Worker:
        """A worker of this group, not started yet."""
        ours = {"CELERY_CONFIG_MODULE": "soon", "PYTHONPATH": str(self._directory), "LEGIT_WORKER_ID": name}
        return Worker(self.proxy.url, self._directory / name, self._config, args=ARGS, env=ours | dict(env or {}))

    def restart(self, worker: Worker) -> None:
        """Kill -9, and start again without waiting."""
        worker.kill()
        worker.start()

    def cut(self, requests_after: int, replies_after: int) -> None:
        """From now on connections are cut, each after so many bytes in the mean of either direction."""
        self.proxy.cut_after, self.proxy.cut_replies_after = requests_after, replies_after
        self._reconnect()

    def calm(self) -> None:
        """Let connections stand again."""
        if self.proxy.cut_after:
            self.cut(0, 0)

    def add(self, ids: Iterable[str], **fields: Any) -> None:
        """Put text tasks into the stream."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for task_id in ids:
                task = {"task_id": task_id, "text": f"text of {task_id}"} | fields
                pipeline.xadd(TASK_STREAM, {"payload": json.dumps(task)})
            pipeline.execute()

    def answered(self) -> int:
        """How many answers there are on the default stream."""
        return int(self.redis.xlen("embedding_results"))

    def wait_for_answers(self, count: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait for so many answers, and do something at each look."""

        def enough() -> bool:
            meanwhile()
            return self.answered() >= count

        wait_for(enough, PATIENCE_S, f"{count} answers", interval=0.05)

    def logged(self, text: str) -> int:
        """How often the workers have printed this since their starts."""
        return sum(worker.log.count(text) for worker in self.workers)

    def owned(self, worker: str) -> int:
        """How many entries are in this worker's hands."""
        return len(self.redis.xpending_range(TASK_STREAM, GROUP, "-", "+", HANDS, worker))

    def left(self) -> int:
        """How many entries are in the stream, or pending without being in it."""
        if not self.redis.exists(TASK_STREAM):
            return 0
        pending = sum(int(group["pending"]) for group in self.redis.xinfo_groups(TASK_STREAM))
        return max(int(self.redis.xlen(TASK_STREAM)), pending)

    def check(self, ids: Sequence[str], scenario: str, began: float, harm: str = "") -> Outcomes:
        """Wait for the end; each task is answered once, and nothing is left over anywhere."""
        try:
            wait_for(lambda: self.left() == 0, PATIENCE_S, "an empty task stream", interval=0.05)
        finally:
            seconds = time.monotonic() - began
            answers = Outcomes.read(self.redis)
            answers.check(ids, scenario, self.name, harm, seconds)
        assert self.redis.xlen(DEAD_LETTER) == 0
        return answers

    def _reconnect(self) -> None:
        for kind in ("normal", "pubsub"):
            self.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
