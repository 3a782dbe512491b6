"""``legit-embedding top``: live view of the workers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group
from rich.filesize import decimal
from rich.text import Text

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.live import keep_watching
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, count, duration, print_json, printable, rate
from legit_embedding.config import load_settings
from legit_embedding.telemetry.scene import observe

if TYPE_CHECKING:
    from rich.console import RenderableType

    from legit_embedding.telemetry.fleet import Shown
    from legit_embedding.telemetry.scene import Scene

STYLES = {
    **{"running": "green", "starting": "yellow", "stopping": "yellow"},
    **{"degraded": "bold yellow", "unhealthy": "bold red"},
}


@click.command("top")
@click.option("--worker", "names", multiple=True, metavar="NAME", help="Only this worker; repeatable.")
@click.option(
    "--queue", "queues", multiple=True, default=("embedding",), show_default=True, help="A Celery queue; repeatable."
)
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Look once and exit.")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object per line.")
def top(names: tuple[str, ...], queues: tuple[str, ...], interval: float, once: bool, as_json: bool) -> None:
    """Show a live view of the workers until Ctrl-C: throughput, queue depths, and the estimated time to completion.

    The workers publish these figures every few seconds. Tasks that no worker has taken yet are the unread entries of
    the task stream and, if redis_url is the broker too, the messages in the Celery queues. A task in flight has been
    taken and not yet answered; an item that waits is prepared and ready for the device. A model's figures count the
    probes of an idle model too.

    \b
    --json prints
      {"server", "at", "items_per_s", "waiting", "in_flight", "empty_in_s", "oldest_s", "lost": [NAME],
       "workers": [{"worker", "state", "problem", "heartbeat_age_s", "uptime_s", "items_per_s", "queue_depth",
                    "in_flight", "batch_size_avg", "device_busy", "embedded", "failed", "vram_used_bytes",
                    "vram_free_bytes", "version",
                    "models": {NAME: {"waiting", "items", "items_per_s", "batch_size_avg", "batch_fill",
                                      "padding_waste", "device_share"}}}]}
    "empty_in_s" is null while nothing is embedded. "oldest_s" is the age of the oldest unfinished entry of the task
    stream. "lost" lists workers that have died without signing off.
    """  # noqa: D301 - the escape is click's
    settings = load_settings()
    with connected(settings) as client:

        def scene() -> Scene:
            return observe(client, settings, queues, names)

        if not once:
            keep_watching(scene, interval, board, as_json=as_json)
        elif as_json:
            print_json(asdict(scene()))
        else:
            console().print(board(scene()))


def board(scene: Scene, note: str = "") -> RenderableType:
    """Lay out a scene as tables.

    Args:
        scene: the scene to show.
        note: a line below the tables.
    """
    done = "never at this rate" if scene.empty_in_s is None else f"in {duration(scene.empty_in_s)}"
    totals = f"{count(scene.waiting)} not taken yet, {count(scene.in_flight)} in flight, all done {done}"
    parts: list[RenderableType] = [
        Text(printable(f"Workers at {scene.server}: {rate(scene.items_per_s)}, {totals}"), style="bold")
    ]
    parts += [_workers(scene.workers), _models(scene.workers)]
    notes = [f"{each.worker}: {each.problem}" for each in scene.workers if each.problem]
    notes += [f"{name} has not shown itself lately" for name in scene.lost]
    notes += [note] if note else []
    return Group(*parts, *(Text(printable(each), style="bold red") for each in notes))


def _workers(workers: tuple[Shown, ...]) -> Group:
    columns = ("Worker", "State", "Items", "In flight", "Busy", "Failed", "Batch", "Memory", "Up", "Seen")
    rows = [
        (
            *(each.worker, Text(printable(each.state), style=STYLES.get(each.state, "")), rate(each.items_per_s)),
            *(count(each.in_flight), f"{each.device_busy:.0%}", count(each.failed), f"{each.batch_size_avg:.1f}"),
            decimal(each.vram_used_bytes) if each.vram_used_bytes else "-",
            *(duration(each.uptime_s), duration(each.heartbeat_age_s)),
        )
        for each in workers
    ]
    return table("" if rows else "No worker has shown itself lately", columns, rows, right=columns[2:])


def _models(workers: tuple[Shown, ...]) -> Group:
    columns = ("Model", "Worker", "Items", "Waiting", "Share", "Fill", "Batch", "Padding")
    rows = [
        (name, each.worker, *_figures(figures))
        for each in workers
        for name, figures in sorted(each.models.items(), key=lambda item: -item[1].get("device_share", 0))
    ]
    return table("Models" if rows else "", columns, rows, right=columns[2:])


def _figures(model: dict[str, Any]) -> tuple[str, ...]:
    share, fill, padding = (f"{model.get(key, 0):.0%}" for key in ("device_share", "batch_fill", "padding_waste"))
    batch = f"{model.get('batch_size_avg', 0):.1f}"
    return rate(model.get("items_per_s")), count(model.get("waiting")), share, fill, batch, padding
