"""Publication of the worker's state in Redis (CONTRACT section 6)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from legit_embedding import __version__
from legit_embedding.engine.stats import Memory
from legit_embedding.telemetry import keys
from legit_embedding.telemetry.figures import Rates, of_model
from legit_embedding.telemetry.health import state_of_model
from legit_embedding.telemetry.place import place

if TYPE_CHECKING:
    import redis

    from legit_embedding.pipeline.snapshot import Observed, Snapshot


PREP_ONLY = "prep-only"
"""The role of a worker that prepares items for others; all others have none."""
_OF_EMBED = (
    *("embedded", "written", "dead", "in_flight", "batch_size_avg", "items_per_s", "gpu_busy"),
    *("vram_used_bytes", "vram_free_bytes"),
)


class Publisher:
    """Writes the worker's hashes and its heartbeat.

    Args:
        client: the Redis client; its exceptions propagate to the caller.
        pipeline: the pipeline whose counters are published.
    """

    def __init__(self, client: redis.Redis, pipeline: Observed) -> None:
        self._client = client
        self._pipeline = pipeline
        self._identity = pipeline.worker
        self._started_at = int(time.time())
        self._place = place()
        self._rates = Rates()
        telemetry = pipeline.settings.telemetry
        self._shows_roles = telemetry.legacy_keys
        self._expire_s = int(max(keys.EXPIRE_S, 3 * telemetry.interval_s))

    def publish(self, state: str, problem: str) -> None:
        """Publish the current counters.

        Raises:
            RedisError: the server is unavailable.
        """
        snapshot = self._pipeline.snapshot()
        fields = self._fields(snapshot) | {"state": state, "problem": problem}
        hashes = {keys.worker(self._identity): fields}
        if self._shows_roles:
            by_role = _by_role(fields, snapshot)
            hashes |= {keys.legacy(role, self._identity): by_role[role] for role in keys.ROLES}
        now = time.time()
        with self._client.pipeline(transaction=False) as batch:
            for key, shown in hashes.items():
                batch.hset(key, mapping=shown)
                batch.expire(key, self._expire_s)
            batch.zadd(keys.WORKERS, {self._identity: round(now, 3)})
            batch.zremrangebyscore(keys.WORKERS, "-inf", now - keys.FORGET_S)
            batch.execute()

    def withdraw(self) -> None:
        """Delete everything that was published.

        Raises:
            RedisError: the server is unavailable.
        """
        with self._client.pipeline(transaction=False) as batch:
            for key in (keys.worker(self._identity), *(keys.legacy(role, self._identity) for role in keys.ROLES)):
                batch.delete(key)  # one by one: in a cluster they are on different nodes
            batch.zrem(keys.WORKERS, self._identity)
            batch.execute()

    def _fields(self, snapshot: Snapshot) -> dict[Any, Any]:
        rates = self._rates.update(snapshot)
        engine = snapshot.engine
        memory = engine.memory if engine is not None and engine.memory.is_gpu else Memory()
        choice = engine.device if engine is not None else None
        device = choice.as_dict() if choice is not None else {}
        registry = self._pipeline.registry
        by_model = {
            name: of_model(model, rates.get(name, 0.0))
            | state_of_model(model, snapshot.at)
            | registry.tower(name).identity()
            for name, model in snapshot.models.items()
        }
        return {
            "started_at": self._started_at,
            "warning": "; ".join(snapshot.notices),
            "role": PREP_ONLY if self._pipeline.prep_only else "",
            "place": self._place,
            "models": json.dumps(registry.names()),
            "prepared": snapshot.prepared,
            "embedded": snapshot.embedded,
            "written": snapshot.writer.written,
            "failed": snapshot.failed,
            "dead": snapshot.source.dead,
            "queue_depth": snapshot.queue_depth,
            "in_flight": snapshot.in_flight,
            "batch_size_avg": round(snapshot.batch_size_avg, 2),
            "items_per_s": round(rates[""], 2),
            "gpu_busy": round(engine.busy, 3) if engine is not None else 0.0,
            "device": device.get("device", ""),
            "device_name": device.get("name", ""),
            "device_uuid": device.get("uuid", ""),
            "device_why": device.get("why", ""),
            "vram_used_bytes": memory.used,
            "vram_free_bytes": memory.free,
            "version": __version__,
            "by_model": json.dumps(by_model),
        }


def _by_role(fields: dict[Any, Any], snapshot: Snapshot) -> dict[str, dict[Any, Any]]:
    """Split the fields by role, as old prep and embed workers published them; sums over both count nothing twice."""
    about = {name: fields[name] for name in ("state", "problem", "started_at", "models", "version")}
    failed = {"prep": snapshot.failed - snapshot.failed_on_device, "embed": snapshot.failed_on_device}
    waiting = {"prep": snapshot.queue_depth - snapshot.device_waiting, "embed": snapshot.device_waiting}
    counts = {
        "prep": {"prepared": fields["prepared"]},
        "embed": {name: fields[name] for name in _OF_EMBED},
    }
    return {role: about | counts[role] | {"failed": failed[role], "queue_depth": waiting[role]} for role in keys.ROLES}
