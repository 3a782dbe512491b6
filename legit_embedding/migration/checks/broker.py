"""Checks of Celery's broker and its result backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from legit_embedding.errors import in_one_line
from legit_embedding.migration.checks.finding import fail, ok, warn

if TYPE_CHECKING:
    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

DEFAULT_VISIBILITY_S = 3600
_MARGIN = 3
_LOOKED_AT = 1000
_TIMES = (b"prep_ms", b"queue_ms", b"compute_ms")


def visibility(deployment: Deployment) -> Finding:
    """Check the visibility timeout: Redis redelivers a message that is not acknowledged in time."""
    scheme = deployment.broker.partition(":")[0]
    if not scheme.startswith(("redis", "valkey", "sentinel")):
        return ok(f"{scheme} redelivers when a connection ends, not by time")
    options = deployment.app.conf.broker_transport_options or {}
    timeout = float(options.get("visibility_timeout", DEFAULT_VISIBILITY_S))
    longest = deployment.longest_task_s or _longest_seen_s(deployment)
    if longest is None:
        todo = "say how long the longest task takes, waiting for the device included: --longest-task"
        return warn(f"the visibility timeout is {timeout:g} s, and no result says how long tasks take", todo)
    what = f"the visibility timeout is {timeout:g} s, the longest task takes {longest:.3g} s"
    todo = f'set broker_transport_options = {{"visibility_timeout": {_MARGIN * longest:.0f}}} or more, in every worker'
    if timeout <= longest:
        return fail(f"{what}: it would be done again and again", todo)
    return ok(what) if timeout >= _MARGIN * longest else warn(f"{what}: too near", todo)


def results(deployment: Deployment) -> Finding:
    """Check the result backend, which receipts, chains and chords need."""
    app = deployment.app
    url = app.conf.result_backend
    if not url or str(url).startswith("disabled"):
        todo = "set result_backend, unless no caller waits for a receipt and no chord has an embedding task"
        return warn("there is no result backend", todo)
    try:
        app.backend.get_task_meta("legit-embedding-doctor")
    except Exception as error:  # noqa: BLE001 - every backend's library has errors of its own
        text = in_one_line(error, named=False)
        return fail(f"the result backend does not answer: {text}", "mend result_backend")
    if not app.conf.result_expires:
        return warn("receipts are kept for ever", "set result_expires")
    return ok(f"{app.backend.as_uri()} answers")


def _longest_seen_s(deployment: Deployment) -> float | None:
    """Longest task duration among the newest results; None if none records it, as those of old workers may not."""
    newest = cast(
        "list[tuple[bytes, dict[bytes, bytes]]]",
        deployment.redis.xrevrange(deployment.settings.streams.results, count=_LOOKED_AT),
    )
    seen = [sum(_number(fields[name]) for name in _TIMES) for _, fields in newest if set(_TIMES) <= set(fields)]
    return max(seen) / 1000 if seen else None


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0
