"""A controller of worker processes that does what KEDA and the Horizontal Pod Autoscaler do."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from legit_embedding.config import StreamConfig
from legit_embedding.pipeline.backlog import desired
from legit_embedding.telemetry.backlog import look

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers import Worker

TASKS, GROUP = "embedding_tasks", "embedding_workers"


@dataclass(frozen=True)
class Policy:
    """How many workers there are to be, and how fast that may change."""

    target: int
    """Tasks per worker."""
    most: int
    ramp_s: float
    """Between two starts, in seconds: one worker at a time."""
    stabilisation_s: float
    """For how long fewer workers must have been desired before one is stopped; and between two stops."""
    grace_s: float
    """From SIGTERM to SIGKILL, in seconds."""


@dataclass
class Pod:
    """One worker process, and how it fares."""

    name: str
    worker: Worker
    started: float
    ready: float | None = None
    stopping: float | None = None

    def look(self) -> None:
        """Note when it becomes ready."""
        if self.ready is None and " ready." in self.worker.log:
            self.ready = time.monotonic()


class Controller:
    """Starts and stops workers by the backlog: the number and the formula of ``legit-embedding backlog``.

    Args:
        client: the server of the task stream.
        policy: how many workers, how fast.
        make: makes the worker of this name, not started yet.
    """

    def __init__(self, client: redis.Redis, policy: Policy, make: Callable[[str], Worker]) -> None:
        self._client = client
        self._policy = policy
        self._make = make
        self._changed = -policy.ramp_s
        self._fewer_since: float | None = None
        self.pods: list[Pod] = []
        self.made = 0
        self.peak = 0
        self.stops: list[float] = []
        """The seconds that each stop took."""
        self.faults: list[str] = []
        """What no scale-in may do: end with an error, outlive its grace, or leave entries behind."""
        self.items = 0

    def turn(self) -> None:
        """Look once, and change at most one worker."""
        seen = look(self._client, StreamConfig(), tuple)
        assert seen.items is not None
        self.items = seen.items
        for pod in list(self.pods):
            pod.look()
            if not pod.worker.running or pod.stopping is not None:
                self._reap(pod)
        self._scale(desired(self.items, self._policy.target, 0, self._policy.most), time.monotonic())

    @property
    def ready(self) -> list[Pod]:
        """Those that read tasks."""
        return [pod for pod in self.working if pod.stopping is None]

    @property
    def working(self) -> list[Pod]:
        """Those that compute, whether they stay or finish what they hold."""
        return [pod for pod in self.pods if pod.ready is not None and pod.worker.running]

    def kill_a_node(self, count: int) -> list[str]:
        """Kill -9 so many ready workers, as when their node is lost; returns their names."""
        lost = self.ready[:count]
        for pod in lost:
            pod.worker.kill()
        return [pod.name for pod in lost]

    def stop_one(self) -> None:
        """Scale in at once, whatever is desired."""
        self._stop(self.ready[-1], time.monotonic())

    def close(self) -> None:
        """Leave no process behind."""
        for pod in self.pods:
            pod.worker.kill()

    def _scale(self, wanted: int, now: float) -> None:
        policy, there = self._policy, [pod for pod in self.pods if pod.stopping is None]
        if wanted >= len(there):
            self._fewer_since = None
        if wanted > len(there) and now - self._changed >= policy.ramp_s:
            self._start(now)
        elif wanted < len(there):
            self._fewer_since = self._fewer_since or now
            if now - max(self._fewer_since, self._changed) >= policy.stabilisation_s:
                self._stop(there[-1], now)

    def _start(self, now: float) -> None:
        self.made += 1
        pod = Pod(f"pod-{self.made}", self._make(f"pod-{self.made}"), now)
        pod.worker.start()
        self.pods.append(pod)
        self.peak = max(self.peak, sum(each.stopping is None for each in self.pods))
        self._changed = now

    def _stop(self, pod: Pod, now: float) -> None:
        pod.worker.send_signal(signal.SIGTERM)
        pod.stopping = self._changed = now

    def _reap(self, pod: Pod) -> None:
        now = time.monotonic()
        if pod.stopping is not None and pod.worker.running:
            if now - pod.stopping > self._policy.grace_s:
                self.faults.append(f"{pod.name} outlived its grace of {self._policy.grace_s:g} s")
                pod.worker.kill()
            return
        self.pods.remove(pod)
        if pod.stopping is None:
            return
        self.stops.append(now - pod.stopping)
        if pod.ready is not None and pod.worker.returncode != 0:
            self.faults.append(f"{pod.name} ended with {pod.worker.returncode}")
        if left := self._held(pod.name):
            self.faults.append(f"{pod.name} has left {left} entries behind")

    def _held(self, name: str) -> int:
        # As long as a stopped worker has entries, they wait for claim_idle_ms.
        with contextlib.suppress(redis.ResponseError):
            for consumer in self._client.xinfo_consumers(TASKS, GROUP):
                if consumer["name"] == name.encode():
                    return int(consumer["pending"])
        return 0
