"""Prometheus metrics over the pipeline's counters, read at scrape time so that they cost the pipeline nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from legit_embedding import __version__
from legit_embedding.engine.histogram import Distribution
from legit_embedding.telemetry.backlog import STALE_S
from legit_embedding.telemetry.families import ALONE, Families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from legit_embedding.engine.stats import EngineStats
    from legit_embedding.pipeline.backlog import TaskBacklog
    from legit_embedding.pipeline.snapshot import Observed, Snapshot


def make_registry(pipeline: Observed, healthy: Callable[[], bool]) -> CollectorRegistry:
    """Create a registry with the metrics of the worker, its process and its Python runtime.

    Args:
        pipeline: the pipeline whose counters are exported.
        healthy: returns True while the worker is healthy.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerCollector(pipeline, healthy))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class WorkerCollector(Families):
    """Reads the pipeline's counters at each scrape. Every metric is labelled with the worker's identity."""

    def __init__(self, pipeline: Observed, healthy: Callable[[], bool]) -> None:
        super().__init__(pipeline.worker)
        self._pipeline = pipeline
        self._healthy = healthy

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        snapshot = self._pipeline.snapshot()
        yield self._gauge("legit_worker_info", "The worker's version.", {__version__: 1}, "version")
        yield self._gauge("legit_healthy", "1 if the worker is well, 0 if not.", {ALONE: int(self._healthy())})
        yield from self._of_tasks(snapshot)
        yield from self._of_waiting(snapshot)
        if snapshot.engine is not None:
            yield self._of_models()
            yield from self._of_device(snapshot.engine)
            yield from self._of_batches(snapshot.engine)
            yield from self._of_remotes(snapshot.engine)
        yield from self._of_writing(snapshot)
        yield from self._of_stream(snapshot)
        backlog = self._pipeline.backlog.latest
        if backlog is not None and snapshot.at - backlog.at < STALE_S:
            yield from self._of_backlog(backlog)

    def _of_tasks(self, snapshot: Snapshot) -> Iterator[Metric]:
        help_ = "Tasks answered, by model and outcome: ok, or an error code."
        yield self._counter("legit_items", help_, snapshot.outcomes, "model", "outcome")
        help_ = "Embedded texts that were cut to their model's limit."
        yield self._counter("legit_truncated_texts", help_, snapshot.truncated, "model")
        help_ = "Attempts that failed and were put off."
        retries = {"prep": sum(snapshot.prep_retries.values()), "write": snapshot.writer.retries}
        yield self._counter("legit_retries", help_, retries, "stage")
        if snapshot.prep_process_deaths is not None:
            help_ = "Prep processes that have died and been replaced."
            yield self._counter("legit_prep_process_deaths", help_, {ALONE: snapshot.prep_process_deaths})
        yield self._gauge(
            "legit_in_flight_items", "Tasks taken over and not answered yet.", {ALONE: snapshot.in_flight}
        )

    def _of_models(self) -> Metric:
        registry = self._pipeline.registry
        towers = [registry.tower(queue) for queue in registry.queues()]
        known = {(each.queue, each.model, each.kind, each.revision, each.digest): 1 for each in towers}
        help_ = "A queue's model, and what its vectors can be compared by: the revision and a digest of the weights."
        return self._gauge("legit_model_info", help_, known, "model", "name", "kind", "revision", "digest")

    def _of_waiting(self, snapshot: Snapshot) -> Iterator[Metric]:
        waiting = {("prep", model): count for model, count in snapshot.prep_waiting.items()}
        for name, model in snapshot.models.items():
            waiting["device" if model.remote is None else "remote", name] = model.waiting
        help_ = "Items that wait here, by what they wait for."
        yield self._gauge("legit_queue_items", help_, waiting, "stage", "model")
        yield self._histogram("legit_prep_seconds", "The preparation of an item.", snapshot.prep_seconds, "model")
        ages = {
            name: snapshot.at - model.last_ok_at
            for name, model in snapshot.models.items()
            if model.last_ok_at is not None
        }
        help_ = "Seconds since the last batch with a good vector; a model that is idle embeds a probe now and then."
        yield self._gauge("legit_model_last_ok_seconds", help_, ages, "model")

    def _of_device(self, engine: EngineStats) -> Iterator[Metric]:
        models = [(name, model) for name, model in engine.models.items() if model.remote is None]
        device = engine.device
        if device is not None:
            labels = (device.device, device.name, device.uuid, device.why)
            help_ = "The device that it computes on, and why that one."
            yield self._gauge("legit_device_info", help_, {labels: 1}, "device", "name", "uuid", "why")
        help_ = "The part of the last seconds in which the device computed."
        yield self._gauge("legit_device_busy_ratio", help_, {ALONE: engine.busy})
        seconds = {name: model.device_s for name, model in models}
        yield self._counter("legit_device_seconds", "Device time spent.", seconds, "model")
        planned = {name: model.planned_bytes for name, model in models}
        yield self._gauge("legit_memory_planned_bytes", "The weights and the largest batch.", planned, "model")
        help_ = "Memory that the worker holds: on a GPU its tensors, on a CPU the whole process."
        yield self._gauge("legit_memory_used_bytes", help_, {ALONE: engine.memory.used})
        help_ = "Memory that batches could take: on a CPU a constant."
        yield self._gauge("legit_memory_free_bytes", help_, {ALONE: engine.memory.free})
        help_ = "Batches that the device had no memory for."
        yield self._counter("legit_out_of_memory", help_, {name: model.ooms for name, model in models}, "model")

    def _of_batches(self, engine: EngineStats) -> Iterator[Metric]:
        seen = {name: model.batches_seen for name, model in engine.models.items()}
        waits = {name: each.wait_s for name, each in seen.items()}
        yield self._histogram("legit_queue_seconds", "An item's wait for the device, once prepared.", waits, "model")
        computed = {name: each.compute_s for name, each in seen.items()}
        yield self._histogram("legit_compute_seconds", "A batch on the device.", computed, "model")
        items = {name: each.items for name, each in seen.items()}
        yield self._histogram("legit_batch_items", "The items of a batch.", items, "model")
        fills = {name: each.fill for name, each in seen.items()}
        yield self._histogram("legit_batch_fill_ratio", "The part of what a batch could have held.", fills, "model")
        cost = {(name, "useful"): model.useful_cost for name, model in engine.models.items()}
        cost |= {(name, "padding"): each.padded_cost - each.useful_cost for name, each in engine.models.items()}
        help_ = "Images or tokens that batches computed; padding apart."
        yield self._counter("legit_batch_cost", help_, cost, "model", "part")
        lookups = {(name, "hit"): model.cache_hits for name, model in engine.models.items()}
        lookups |= {(name, "miss"): model.cache_misses for name, model in engine.models.items()}
        yield self._counter("legit_cache_lookups", "Items looked up in the content cache.", lookups, "model", "outcome")

    def _of_remotes(self, engine: EngineStats) -> Iterator[Metric]:
        remotes = {name: model.remote for name, model in engine.models.items() if model.remote is not None}
        if not remotes:
            return
        flying = {name: each.requests for name, each in remotes.items()}
        yield self._gauge("legit_remote_requests", "Requests to a remote model in flight.", flying, "model")
        is_open = {name: int(each.is_open) for name, each in remotes.items()}
        help_ = "1 while the circuit breaker of a remote model is open: its items wait."
        yield self._gauge("legit_remote_breaker_open", help_, is_open, "model")
        errors = {(name, kind): count for name, each in remotes.items() for kind, count in each.errors.items()}
        help_ = "Failed requests to a remote model: connect, timeout, status, broken, or refused for an item's sake."
        yield self._counter("legit_remote_errors", help_, errors, "model", "kind")
        help_ = "Batches of a remote model that are sent again."
        yield self._counter(
            "legit_remote_retries", help_, {name: each.retries for name, each in remotes.items()}, "model"
        )

    def _of_writing(self, snapshot: Snapshot) -> Iterator[Metric]:
        writer = snapshot.writer
        spent = Distribution(writer.write_s_buckets, writer.write_s_sum)
        help_ = "The writing of a batch of results, until Redis has confirmed it."
        yield self._histogram("legit_write_seconds", help_, {ALONE: spent})
        yield self._counter("legit_results_written", "Results added to their streams.", {ALONE: writer.written})
        yield self._gauge("legit_unwritten_results", "Results that are not confirmed yet.", {ALONE: writer.pending})
        help_ = "Bytes of the results that are not confirmed yet."
        yield self._gauge("legit_unwritten_bytes", help_, {ALONE: writer.pending_bytes})

    def _of_stream(self, snapshot: Snapshot) -> Iterator[Metric]:
        source = snapshot.source
        yield self._counter("legit_stream_read", "Entries taken from the task stream.", {ALONE: source.read})
        help_ = "Entries taken over from workers that are gone."
        yield self._counter("legit_stream_reclaimed", help_, {ALONE: source.reclaimed})
        yield self._gauge("legit_stream_held_items", "Entries of the stream in the works.", {ALONE: source.held})
        yield self._counter("legit_dead_letters", "Tasks moved to the dead letter.", {ALONE: source.dead})

    def _of_backlog(self, backlog: TaskBacklog) -> Iterator[Metric]:
        help_ = "Unfinished tasks of what this worker reads, waiting or in progress in any worker, by source."
        known = {depth.source: depth.items for depth in backlog.depths if depth.items is not None}
        yield self._gauge("legit_backlog_items", help_, known, "source")
        unread = {depth.source: depth.unread for depth in backlog.depths if depth.unread is not None}
        yield self._gauge(
            "legit_backlog_unread_items", "Entries of the stream that no worker has read.", unread, "source"
        )
        ages = {depth.source: depth.oldest_age_s or 0.0 for depth in backlog.depths if depth.unread is not None}
        help_ = "The age of the oldest unfinished entry of the stream; 0 if there is none."
        yield self._gauge("legit_backlog_oldest_seconds", help_, ages, "source")
        help_ = "Tasks that all workers together answer with a vector, per second."
        yield self._gauge("legit_backlog_items_per_second", help_, {ALONE: backlog.items_per_s})
        if (soon := backlog.empty_in_s) is not None:
            help_ = "Seconds until all of them are done at that rate; +Inf at none."
            yield self._gauge("legit_backlog_seconds", help_, {ALONE: soon})
        yield self._gauge("legit_dead_letter_items", "Entries of the dead letter.", {ALONE: backlog.dead_letters})
