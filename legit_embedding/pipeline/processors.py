"""The choice of processors for the configured models."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from legit_embedding.pipeline.handoff_processor import HandOffProcessor

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from legit_embedding.config import Settings
    from legit_embedding.models.registry import Registry
    from legit_embedding.pipeline.protocols import Processor
    from legit_embedding.prep.handoff import HandOffDirectory


def make_processor(
    settings: Settings,
    registry: Registry,
    handoffs: HandOffDirectory | None,
    on_room: Callable[[], None],
    on_fatal: Callable[[BaseException], None] | None,
    *,
    redis: bool = True,
    together: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Processor:
    """Make what embeds the prepared items: the device's part, that of the remote models, or both.

    Where a model has ``cache_s``, the content cache stands in front.

    Args:
        settings: the process's settings.
        registry: the models.
        handoffs: where a prep-only worker leaves tensors; None for a worker that embeds them.
        on_room: called when a model that was full has room again.
        on_fatal: called once when the device has failed permanently, or a processor's thread has ended.
        redis: False for a pipeline without Redis, which keeps no vectors.
        together: makes a context in which the device's batches are answered, each in one go.

    Raises:
        ConfigError: a model's settings do not fit its backend.
    """
    from legit_embedding.pipeline.cached import Cached
    from legit_embedding.pipeline.routed import Routed
    from legit_embedding.remote.processor import RemoteProcessor

    remotes = registry.remotes()
    only_remote = len(remotes) == len(registry.queues())
    made = None if only_remote else _local(settings, registry, handoffs, on_room, on_fatal, together)
    if made is None or remotes:
        most = settings.engine.max_in_flight
        made = Routed(made, RemoteProcessor(remotes, settings.remote, most, on_room=on_room, on_fatal=on_fatal))
    keeps_vectors = redis and handoffs is None and any(model.cache_s for model in settings.models.values())
    return Cached(made, settings.redis, settings.streams.tasks, on_fatal) if keeps_vectors else made


def _local(
    settings: Settings,
    registry: Registry,
    handoffs: HandOffDirectory | None,
    on_room: Callable[[], None],
    on_fatal: Callable[[BaseException], None] | None,
    together: Callable[[], AbstractContextManager[None]],
) -> Processor:
    if handoffs is not None:
        return HandOffProcessor(handoffs)
    # They import torch, which remote models do without.
    from legit_embedding.engine.engine import Engine
    from legit_embedding.pipeline.windows import Windows

    backends = registry.backends()
    device, precision = settings.device, settings.precision
    engine = Engine(backends, settings.engine, device, precision, on_room=on_room, on_fatal=on_fatal)
    engine.deliver_within(together)
    return Windows(engine)
