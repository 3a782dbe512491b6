"""``legit-embedding backlog``: the unfinished tasks, and how many workers they deserve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
from kombu.transport.redis import PRIORITY_STEPS, Channel

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, count, duration, print_json, rate
from legit_embedding.config import load_settings
from legit_embedding.pipeline.backlog import desired
from legit_embedding.telemetry.backlog import count_queues, look

if TYPE_CHECKING:
    import redis

    from legit_embedding.config import Settings
    from legit_embedding.pipeline.backlog import Depth, TaskBacklog


@click.command("backlog")
@click.option(
    "--queue", "queues", multiple=True, default=("embedding",), show_default=True, help="A Celery queue; repeatable."
)
@click.option("--target", type=click.IntRange(1), help="Tasks per worker; the answer then says how many workers.")
@click.option("--min", "least", type=click.IntRange(0), default=0, show_default=True, help="The fewest workers.")
@click.option("--max", "most", type=click.IntRange(0), default=10, show_default=True, help="The most workers.")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object.")
def backlog(queues: tuple[str, ...], target: int | None, least: int, most: int, as_json: bool) -> None:
    """Show the tasks that are not finished yet, waiting or in progress, and when they will be: the number to scale by.

    They are the entries of the task stream, unless streams.consume is off, and, if redis_url is the broker too, the
    messages in the Celery queues and those that workers hold unacknowledged. With --target it also prints the number of
    workers to have, clamp(ceil(items / target), min, max). Nothing but LEGIT_REDIS_URL, or a settings file, is needed.

    \b
    --json prints
      {"server", "items", "items_per_s", "empty_in_s", "dead_letters",
       "sources": [{"source", "items", "unread", "oldest_age_s"}], "desired"}
    "empty_in_s" is null at no measured rate. "desired" is there with --target. What the server cannot tell is null, and
    so is what depends on it: the command then ends with 1 where --target asks for a number.
    """  # noqa: D301 - the escape is click's
    if least > most:
        message = f"--min {least} is more than --max {most}"
        raise click.UsageError(message)
    settings = load_settings()
    with connected(settings) as client:
        seen = look(client, settings.streams, lambda: _count(client, queues))
    items = seen.items
    workers = desired(items, target, least, most) if target is not None and items is not None else None
    if as_json:
        print_json(_shown(settings, seen) | ({"desired": workers} if target is not None else {}))
    else:
        _print(settings, seen, workers)
    if target is not None and items is None:
        message = (
            "the server cannot tell how many entries of the task stream are unread, since others were deleted: "
            "set streams.delete_on_ack"
        )
        raise click.ClickException(message)


def _count(client: redis.Redis, queues: tuple[str, ...]) -> list[Depth]:
    lists = {queue: [f"{queue}{Channel.sep}{step}" if step else queue for step in PRIORITY_STEPS] for queue in queues}
    return count_queues(client, lists, Channel.unacked_key)


def _shown(settings: Settings, seen: TaskBacklog) -> dict[str, Any]:
    soon = seen.empty_in_s
    return {
        "server": settings.redis.public,
        "items": seen.items,
        "items_per_s": round(seen.items_per_s, 2),
        "empty_in_s": None if soon is None or math.isinf(soon) else round(soon, 1),
        "dead_letters": seen.dead_letters,
        "sources": [
            {
                "source": depth.source,
                "items": depth.items,
                "unread": depth.unread,
                "oldest_age_s": None if depth.oldest_age_s is None else round(depth.oldest_age_s, 1),
            }
            for depth in seen.depths
        ],
    }


def _print(settings: Settings, seen: TaskBacklog, workers: int | None) -> None:
    rows = [(each.source, count(each.items), count(each.unread), duration(each.oldest_age_s)) for each in seen.depths]
    columns = ("Source", "Unfinished", "Unread", "Oldest")
    soon = seen.empty_in_s
    when = "never at this rate" if soon == math.inf else f"empty in {duration(soon)}"
    said = f"{count(seen.items)} unfinished, {rate(seen.items_per_s)}, {when}, {count(seen.dead_letters)} dead letters"
    console().print(table(f"Backlog at {settings.redis.public}", columns, rows, right=columns[1:]))
    console().print(said)
    if workers is not None:
        console().print(f"{workers} workers desired")
