"""Redis keys under which workers publish themselves (CONTRACT section 6)."""

from __future__ import annotations

WORKERS = "embedding:workers"
"""Sorted set of identities, scored by last heartbeat in Unix seconds."""

EXPIRE_S = 30.0
FORGET_S = 24 * 3600
"""Seconds without a heartbeat after which an identity is no longer listed."""

ROLES = ("prep", "embed")
"""Roles of the old fleet, both filled by one worker now."""


def worker(identity: str) -> str:
    """Key of a worker's hash."""
    return f"embedding:worker:{identity}"


def claim(identity: str) -> str:
    """Key of the token of the process that holds an identity."""
    return f"embedding:claim:{identity}"


def legacy(role: str, identity: str) -> str:
    """Key of the hash that the old fleet's dashboards read."""
    return f"embedding:stats:{role}:{identity}"
