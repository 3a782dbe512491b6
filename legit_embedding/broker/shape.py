"""Checks that the installed kombu has the private parts that this package replaces or reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.transport import redis as redis_transport
from kombu.transport import virtual

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPECTED: tuple[tuple[type, tuple[str, ...]], ...] = (
    (
        redis_transport.Channel,
        (
            "_brpop_start",
            "_brpop_read",
            "_flush_brpop_reauth",
            "_q_for_pri",
            "active_queues",
            "conn_or_acquire",
            "pool",
        ),
    ),
    (redis_transport.QoS, ("append", "restore_by_tag", "unacked_key", "unacked_index_key")),
    (virtual.QoS, ("append", "can_consume_max_estimate", "restore_unacked_once", "_flush")),
    (redis_transport.Transport, ("_deliver",)),
)
"""Classes of kombu's Redis transport and what is used of each, beyond its public interface. Tried with kombu 5.7."""


def missing(expected: Iterable[tuple[type, tuple[str, ...]]] = EXPECTED) -> list[str]:
    """The expected parts that this kombu lacks, as ``Class.name``; none where everything fits."""
    return [f"{owner.__name__}.{name}" for owner, names in expected for name in names if not hasattr(owner, name)]
