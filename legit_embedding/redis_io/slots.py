"""Hash slots of a Redis Cluster: what one script or one transaction touches must be in one of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from redis.crc import key_slot

if TYPE_CHECKING:
    from collections.abc import Iterable

_TAG = re.compile(r"[^{]*(\{[^}]+\})")


def slot(key: str | bytes) -> int:
    """The hash slot of a key, 0 to 16383."""
    return key_slot(key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key)


def share_a_slot(keys: Iterable[str | bytes]) -> bool:
    """True if all of these keys are in one hash slot, and so on one node."""
    return len(set(map(slot, keys))) <= 1


def hash_tag(key: str) -> str:
    """The part of a key that determines its slot, with its braces; empty for a key without one."""
    found = _TAG.match(key)
    return found[1] if found else ""


def beside(prefix: str, key: str) -> str:
    """A prefix for keys in the slot of ``key``, if that has a hash tag; the prefix itself must have none."""
    tag = hash_tag(key)
    return f"{prefix}{tag}:" if tag else prefix
