"""Checks of the keys on the server: streams under unexpected names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from legit_embedding.cli.shared.terminal import counted
from legit_embedding.migration.checks.finding import fail, ok

if TYPE_CHECKING:
    from legit_embedding.config import StreamConfig
    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

_SHOWN = 5


def prefix(deployment: Deployment) -> Finding:
    """Check for prefixed streams: a producer with a key prefix (Laravel's ``OPT_PREFIX``) misses our streams."""
    streams = deployment.settings.streams
    ours = _ours(streams)
    prefixed = [
        f"{stream} ({counted(length, 'entry', 'entries')})"
        for stream in deployment.streams
        if stream not in ours and stream.endswith(tuple(ours)) and (length := deployment.redis.xlen(stream))
    ]
    if prefixed:
        todo = "give the connection that uses these streams an empty key prefix (Laravel: 'prefix' => '')"
        return fail(f"streams of ours under a key prefix: {_some(prefixed)}", todo)
    return ok("no stream of ours under a key prefix")


def allow_list(deployment: Deployment) -> Finding:
    """Check the allow-list: results are written only to streams that it names."""
    streams = deployment.settings.streams
    refused = [name for name in deployment.streams if not streams.allows(name) and _holds_results(deployment, name)]
    if refused:
        todo = "add them to streams.reply_to_allow, or change what asks for them"
        return fail(f"results have gone to streams that the worker would refuse: {_some(refused)}", todo)
    return ok(f"streams.reply_to_allow ({', '.join(streams.reply_to_allow)}) covers every stream with results")


def _ours(streams: StreamConfig) -> set[str]:
    return {streams.tasks, streams.results, *streams.routes.values()}


def _holds_results(deployment: Deployment, stream: str) -> bool:
    newest = cast("list[tuple[bytes, dict[bytes, bytes]]]", deployment.redis.xrevrange(stream, count=1))
    return bool(newest) and {b"task_id", b"embedding"} <= set(newest[0][1])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
