"""Snapshot of the workers from their state in Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from legit_embedding.telemetry import keys

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, slots=True)
class Shown:
    """State of one worker at its last heartbeat; the field names are the keys of ``--json``."""

    worker: str
    state: str
    problem: str
    heartbeat_age_s: float
    uptime_s: float
    items_per_s: float
    queue_depth: int
    in_flight: int
    batch_size_avg: float
    device_busy: float
    embedded: int
    failed: int
    vram_used_bytes: int
    vram_free_bytes: int
    version: str
    warning: str
    role: str
    place: str
    models: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers of one server."""

    at: float
    """The server's clock, in Unix seconds."""
    workers: tuple[Shown, ...]
    lost: tuple[str, ...]
    """Workers that were seen within the last day and have died without signing off."""


def look(client: redis.Redis) -> Fleet:
    """Read the state of every worker."""
    seconds, microseconds = client.time()
    at = seconds + microseconds / 1e6
    beats = cast("list[tuple[bytes, float]]", client.zrange(keys.WORKERS, 0, -1, withscores=True))
    names = [name.decode("utf-8", "replace") for name, _ in beats]
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(keys.worker(name))
        hashes: list[dict[bytes, bytes]] = pipeline.execute() if names else []
    found = {
        name: _shown(name, {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items()}, at, beat)
        for (name, raw, (_, beat)) in zip(names, hashes, beats, strict=True)
        if raw
    }
    return Fleet(at, tuple(found[name] for name in sorted(found)), tuple(sorted(set(names) - set(found))))


def _shown(name: str, fields: dict[str, str], at: float, beat: float) -> Shown:
    def number(key: str) -> float:
        return float(fields.get(key) or 0)

    return Shown(
        worker=name,
        state=fields.get("state", ""),
        problem=fields.get("problem", ""),
        heartbeat_age_s=round(max(0.0, at - beat), 1),
        uptime_s=round(max(0.0, at - number("started_at")), 1),
        items_per_s=number("items_per_s"),
        queue_depth=int(number("queue_depth")),
        in_flight=int(number("in_flight")),
        batch_size_avg=number("batch_size_avg"),
        device_busy=number("gpu_busy"),
        embedded=int(number("embedded")),
        failed=int(number("failed")),
        vram_used_bytes=int(number("vram_used_bytes")),
        vram_free_bytes=int(number("vram_free_bytes")),
        version=fields.get("version", ""),
        warning=fields.get("warning", ""),
        role=fields.get("role", ""),
        place=fields.get("place", ""),
        models=json.loads(fields.get("by_model") or "{}"),
    )
