"""The worker's concurrency where the operator gives none: the cores that it may use, not those of the host.

The log says which, and how much memory there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import concurrency, signals

from legit_embedding.progress import logger

if TYPE_CHECKING:
    from collections.abc import Mapping


def choose(instance: Any, conf: Any, options: Mapping[str, Any], **_: object) -> None:  # noqa: ANN401 - Celery's signal
    """Set the default of a worker that is about to be made, if its pool is ours; to receive `celeryd_init`.

    ``-c``, ``CELERY_WORKER_CONCURRENCY`` and ``worker_concurrency`` win.
    """
    pool = concurrency.get_implementation(options.get("pool") or options.get("pool_cls") or conf.worker_pool)
    if not pool.__module__.startswith("legit_embedding."):
        return
    source = "given"
    if not (options.get("concurrency") or conf.worker_concurrency):
        from legit_embedding.prep.cpus import counted_cpus

        conf.worker_concurrency, source = counted_cpus()

    def announce(**_: object) -> None:
        from legit_embedding.prep.memory import counted_memory

        signals.celeryd_after_setup.disconnect(announce)
        memory, limit = counted_memory()
        logger.info("concurrency %s: %s; memory %.1f GiB: %s", instance.concurrency, source, memory / 2**30, limit)

    signals.celeryd_after_setup.connect(announce, weak=False)
