"""The keys under which workers show themselves in Redis (CONTRACT section 6)."""

from __future__ import annotations

WORKERS = "embedding:workers"
"""A sorted set: identities by their last heartbeat, in Unix seconds."""

EXPIRE_S = 30.0
FORGET_S = 24 * 3600
"""An identity without a heartbeat for so long is no longer listed."""

ROLES = ("prep", "embed")
"""The roles of the old fleet, which one worker now fills together."""


def worker(identity: str) -> str:
    """The hash of a worker."""
    return f"embedding:worker:{identity}"


def claim(identity: str) -> str:
    """Who has the identity at the moment: the token of one process."""
    return f"embedding:claim:{identity}"


def legacy(role: str, identity: str) -> str:
    """The hash that the dashboards of the old fleet read."""
    return f"embedding:stats:{role}:{identity}"
