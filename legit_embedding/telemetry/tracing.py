"""OpenTelemetry traces, enabled by the setting ``telemetry.traces`` and the extra ``otel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from legit_embedding.pipeline.caller import Tracer


def make_tracer(worker: str) -> Tracer:
    """Create a tracer that uses the process's provider, or else one configured by the ``OTEL_`` variables.

    Args:
        worker: the worker's identity.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from legit_embedding.telemetry.traces import OtelTracer
    except ImportError as error:
        message = f"telemetry.traces: {error.name} is missing: pip install legit-embedding[otel]"
        raise ConfigError(message) from error
    return OtelTracer(worker)
