"""``legit-embedding streams``: how the streams stand."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from legit_embedding.cli.board import board
from legit_embedding.cli.connection import address, connected
from legit_embedding.cli.failures import one_line
from legit_embedding.cli.glance import glance, result_streams
from legit_embedding.cli.report import Meter
from legit_embedding.cli.terminal import console, print_json, say
from legit_embedding.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.live import Live

    from legit_embedding.cli.glance import Glance
    from legit_embedding.cli.report import Report

PASSING = (RedisConnectionError, RedisTimeoutError, ResponseError)
"""What a watch outlives: a server that is away, loading or failing over."""


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
@click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")
def streams(more: tuple[str, ...], interval: float, watch: bool, as_json: bool) -> None:
    """Show how long the streams are, who works on them, and when they will be empty.

    Shown are the task stream, the dead letter, and the result streams that the settings name (the default, the routes,
    and reply_to_allow where it has no wildcard); add others with --results.

    \b
    --json prints
      {"server", "at", "measured_s",
       "tasks": {"stream", "length", "group", "lag", "pending", "oldest_age_s", "arrivals_per_s", "finished_per_s",
                 "empty_in_s", "consumers": [{"name", "pending", "idle_s"}]},
       "dead_letter": {"stream", "length", "added", "per_s", "oldest_age_s", "newest_age_s"},
       "results": [the same keys as dead_letter]}
    "at" is the server's clock. What is not known is null: rates before the second look; "empty_in_s" also where the
    stream would never be empty at these rates. "lag" counts entries not read, "pending" those read and not finished.
    """  # noqa: D301 - the escape is click's
    settings = load_settings()
    names = result_streams(settings.streams, more)
    with connected(settings) as client:
        meter = Meter(address(client))

        def look() -> Glance:
            return glance(client, settings.streams, names)

        if watch:
            _watch(look, meter, max(interval, 0.1), as_json=as_json)
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


def _watch(look: Callable[[], Glance], meter: Meter, interval: float, *, as_json: bool) -> None:
    with ExitStack() as stack:
        show = _print if as_json else _Screen(stack).show
        try:
            for report, trouble in _reports(look, meter, interval):
                show(report, trouble)
        except KeyboardInterrupt:
            return


def _reports(look: Callable[[], Glance], meter: Meter, interval: float) -> Iterator[tuple[Report, str]]:
    """A report for each look, or the last one with what is in the way; the first look must work."""
    report, trouble = meter.report(look()), ""
    while True:
        yield report, trouble
        time.sleep(interval)
        try:
            report, trouble = meter.report(look()), ""
        except PASSING as error:
            trouble = f"Redis: {one_line(error)}; trying again"


def _print(report: Report, trouble: str) -> None:
    if trouble:
        say(trouble)
    else:
        print_json(asdict(report))


class _Screen:
    """The report in place, on a terminal."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._live: Live | None = None

    def show(self, report: Report, trouble: str) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = self._stack.enter_context(Live(console=console(), auto_refresh=False))
        self._live.update(board(report, trouble), refresh=True)
