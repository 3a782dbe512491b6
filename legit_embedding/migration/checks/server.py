"""Checks of the Redis server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError

from legit_embedding.migration.checks.finding import fail, ok, warn

if TYPE_CHECKING:
    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

OLDEST, TESTED = (6, 2), (7, 0)
SKEW_WARN_S, SKEW_FAIL_S = 1.0, 10.0
_FULL = 0.8


def version(deployment: Deployment) -> Finding:
    """Check the version: reclaiming stream entries needs Redis 6.2."""
    info = _info(deployment, "server")
    compatible = str(info.get("redis_version", "0"))
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', compatible)}"
    numbers = tuple(int(part) for part in compatible.split(".")[:2])
    if numbers < OLDEST:
        return fail(f"{name} has no XAUTOCLAIM", "use Redis 6.2 or later (7 is tested), or Valkey")
    if numbers < TESTED:
        return warn(f"{name} is older than what is tested", "plan for Redis 7 or Valkey")
    return ok(name)


def persistence(deployment: Deployment) -> Finding:
    """Check persistence: queued tasks and unread results exist only on this server."""
    info = _info(deployment, "persistence")
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status") != "ok":
            return fail("the append-only file cannot be written", "look at the server's log: its disk may be full")
        return ok("append-only file")
    if info.get("rdb_last_bgsave_status") != "ok":
        return fail("the last snapshot failed", "look at the server's log: its disk, or its memory, may be full")
    saves = _setting(deployment, "save")
    if saves == "":
        todo = "set `appendonly yes`, unless every task can be sent again"
        return warn("nothing is written to disk: a restart of the server loses tasks and results", todo)
    return warn(
        "snapshots only: a crash of the server loses what came since the last one",
        "set `appendonly yes`, unless every task can be sent again",
    )


def eviction(deployment: Deployment) -> Finding:
    """Check the eviction policy: it must not evict tasks."""
    info = _info(deployment, "memory")
    policy, limit, used = str(info.get("maxmemory_policy")), int(info.get("maxmemory", 0)), int(info["used_memory"])
    if not limit:
        return ok("no memory limit, so nothing is evicted")
    if policy.startswith("allkeys"):
        return fail(f"maxmemory-policy is {policy}: queues and streams may be evicted", "set it to noeviction")
    if policy != "noeviction":
        todo = "set it to noeviction, or keep well below maxmemory"
        return warn(f"maxmemory-policy is {policy}: results and the record of what was answered may be evicted", todo)
    if used > _FULL * limit:
        return warn(f"{used / limit:.0%} of maxmemory is used: writes will be refused", "make room, or trim streams")
    return ok(f"noeviction, {used / limit:.0%} of maxmemory used")


def clock(deployment: Deployment) -> Finding:
    """Check the clock: deadlines are in Unix time, set by producers and enforced by the worker."""
    before = time.time()
    seconds, microseconds = deployment.redis.time()
    skew = abs(seconds + microseconds / 1e6 - (before + time.time()) / 2)
    what = f"this clock and the server's are {skew:.3f} s apart"
    if skew > SKEW_FAIL_S:
        return fail(what, "synchronise both with NTP: deadlines and ages would be wrong")
    if skew > SKEW_WARN_S:
        return warn(what, "synchronise both with NTP")
    return ok(what)


def _info(deployment: Deployment, section: str) -> dict[str, Any]:
    info: dict[str, Any] = deployment.redis.info(section)
    return info


def _setting(deployment: Deployment, name: str) -> str | None:
    """Return one of the server's settings; None if it is not disclosed (managed servers often refuse)."""
    try:
        found = cast("dict[Any, Any]", deployment.redis.config_get(name))
    except ResponseError:
        return None
    value = found.get(name, found.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else value
