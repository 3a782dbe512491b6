"""``legit-embedding streams``: backlog, rates and consumers of the streams."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.live import keep_watching
from legit_embedding.cli.shared.terminal import console, print_json
from legit_embedding.cli.streams.report import Meter
from legit_embedding.cli.streams.tables import board
from legit_embedding.config import load_settings
from legit_embedding.telemetry.glance import glance, result_streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.telemetry.glance import Glance


@click.command("streams")
@click.option("--results", "more", multiple=True, metavar="STREAM", help="A further result stream to show; repeatable.")
@click.option(
    "--interval",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks. Rates need two, so without --watch the answer takes this long; 0: one look, "
    "and no rates.",
)
@click.option("--watch", is_flag=True, help="Go on looking until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object per line.")
def streams(more: tuple[str, ...], interval: float, watch: bool, as_json: bool) -> None:
    """Show the length of the streams, their consumers, and the estimated time until they are empty.

    It covers the task stream, the dead letter, and the result streams named in the settings (the default, the routes,
    and the entries of reply_to_allow without a wildcard). Add others with --results.

    \b
    --json prints
      {"server", "at", "measured_s",
       "tasks": {"stream", "length", "group", "lag", "pending", "oldest_age_s", "arrivals_per_s", "finished_per_s",
                 "empty_in_s", "consumers": [{"name", "pending", "idle_s"}]},
       "dead_letter": {"stream", "length", "added", "per_s", "oldest_age_s", "newest_age_s"},
       "results": [the same keys as dead_letter]}
    "at" is the server's clock. Unknown values are null: rates before the second look, and "empty_in_s" also if the
    stream would never be empty at these rates. "lag" counts unread entries, "pending" those read but not finished.
    """  # noqa: D301 - the escape is click's
    settings = load_settings()
    names = result_streams(settings.streams, more)
    with connected(settings) as client:
        meter = Meter(settings.redis.public)

        def look() -> Glance:
            return glance(client, settings.streams, names)

        if watch:
            keep_watching(lambda: meter.report(look()), max(interval, 0.1), board, as_json=as_json)
        else:
            _once(look, meter, interval, as_json=as_json)


def _once(look: Callable[[], Glance], meter: Meter, interval: float, *, as_json: bool) -> None:
    report = meter.report(look())
    if interval:
        time.sleep(interval)
        report = meter.report(look())
    if as_json:
        print_json(asdict(report))
    else:
        console().print(board(report))
