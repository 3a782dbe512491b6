"""Metadata of the remote commands for the ``celery`` command-line client."""

from __future__ import annotations

from typing import Any


class _Either(str):
    """A command type that equals both ``inspect`` and ``control``: Celery keeps one command per name."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other in ("inspect", "control")

    def __hash__(self) -> int:
        return hash(str(self))


def announce(control: Any) -> None:  # noqa: ANN401 - Celery's module, which producers do not import
    """Register the commands with ``celery inspect`` and ``celery control``."""
    control.Panel.meta["batching"] = control.controller_info_t(
        alias=None,
        type=_Either("inspect"),
        visible=True,
        default_timeout=1.0,
        help="Show how models share the device; with arguments, change a model's share or its batches.",
        signature="[MODEL [weight=NUMBER] [linger_ms=NUMBER] [max_batch=NUMBER|auto]]",
        args=None,
        variadic="words",
    )
