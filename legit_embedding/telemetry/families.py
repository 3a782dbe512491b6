"""Families of Prometheus metrics from values that were counted elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client.metrics_core import Metric

    from legit_embedding.engine.histogram import Distribution

ALONE: tuple[str, ...] = ()
"""Key of a value without labels besides the worker."""


class Families(Collector):
    """A collector that labels every metric with the worker's identity.

    Args:
        worker: the identity.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def _gauge(self, name: str, help_: str, values: Mapping[Any, float], *labels: str) -> Metric:
        family = GaugeMetricFamily(name, help_, labels=["worker", *labels])
        for key, value in values.items():
            family.add_metric(self._labels(key), value)
        return family

    def _counter(self, name: str, help_: str, values: Mapping[Any, float], *labels: str) -> Metric:
        """Make a counter; ``name`` excludes the ``_total`` that is appended on export."""
        family = CounterMetricFamily(name, help_, labels=["worker", *labels])
        for key, value in values.items():
            family.add_metric(self._labels(key), value)
        return family

    def _histogram(self, name: str, help_: str, values: Mapping[Any, Distribution], *labels: str) -> Metric:
        family = HistogramMetricFamily(name, help_, labels=["worker", *labels])
        for key, seen in values.items():
            buckets = [(floatToGoString(bound), float(count)) for bound, count in seen.buckets]  # type: ignore[no-untyped-call]
            family.add_metric(self._labels(key), buckets, seen.sum)
        return family

    def _labels(self, key: str | tuple[str, ...]) -> list[str]:
        return [self._worker, *([key] if isinstance(key, str) else key)]
