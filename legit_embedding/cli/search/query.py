"""One query, embedded by a running worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from legit_embedding.cli.shared.patience import reason
from legit_embedding.cli.shared.replies import Replies, reply_stream
from legit_embedding.cli.shared.terminal import duration
from legit_embedding.cli.submit.jsonl import encode
from legit_embedding.errors import TaskError
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from legit_embedding.cli.results.results import ResultEntry
    from legit_embedding.config import StreamConfig

KEPT_S = 600
"""Seconds after which an answer that came too late is gone."""


def ask(client: redis.Redis, streams: StreamConfig, content: Mapping[str, Any], timeout_s: float) -> ResultEntry:
    """Have one task answered.

    Args:
        client: the Redis client.
        streams: the settings of the streams.
        content: the task's fields; the others are added.
        timeout_s: how long to wait, in seconds.

    Raises:
        ClickException: the answer is an error, or there is none.
    """
    replies = Replies(client, reply_stream(streams, "search"), KEPT_S)
    deadline = int((time.time() + timeout_s) * 1000)
    task = {"task_id": "query", "reply_to": replies.stream, "deadline": deadline, "priority": "interactive", **content}
    try:
        TaskObject.parse(task)
    except TaskError as error:
        raise click.ClickException(error.detail) from error
    replies.make()
    client.xadd(streams.tasks, {"payload": encode(task)})
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for entry in replies.read():
            replies.remove()
            return _good(entry)
    message = f"no answer for {duration(timeout_s)}: {reason(client, streams.tasks)[1]}"
    raise click.ClickException(message)


def _good(entry: ResultEntry) -> ResultEntry:
    if entry.fields.get("status") != "ok":
        message = f"{entry.fields.get('error')}: {entry.fields.get('detail')}"
        raise click.ClickException(message)
    return entry
