"""``legit-embedding plan``: measured batch sizes of the models."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click
from rich.console import Group
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import UNKNOWN, console, print_json, printable
from legit_embedding.config import load_settings
from legit_embedding.progress import logger
from legit_embedding.progress import show as show_progress

if TYPE_CHECKING:
    from typing import Self

    from rich.console import RenderableType

    from legit_embedding.config import Settings
    from legit_embedding.engine.sizing.profile import Plan
    from legit_embedding.models.registry import Registry
    from legit_embedding.models.tower import Tower

_SHORT = 12
_LIMITS = {
    "memory": "a larger batch would not fit in the memory that engine.memory_fraction leaves to one batch",
    "speed": "a larger batch would not be faster",
    "time": "a larger batch would keep the device from other models for too long",
}


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="JSON: one object keyed by model.")
def plan(as_json: bool) -> None:
    """Load the models, measure them on the device, and show how large their batches will be.

    No worker is started, and Redis is not needed. Tokens include padding. Remote models are named, and not asked.

    \b
    --json prints
      {MODEL: {"kind", "revision", "digest", "weights_bytes", "bytes": {"base", "slope"}, "seconds": {"base", "slope"},
               "largest", "knee", "speed", "target", "limited_by", "device": {"device", "why", "name", "uuid"},
               "compiled", "start_s": {"load", "measure", "compile"}, …}}
    and {MODEL: {"kind", "remote"}} for a remote model, with its address.
    """  # noqa: D301 - the escape is click's
    from legit_embedding.models.registry import Registry

    settings = load_settings()
    registry = Registry(settings.models)
    plans = measure(settings, registry)
    towers = {name: registry.tower(name) for name in plans}
    if as_json:
        identities = {name: {"revision": each.revision, "digest": each.digest} for name, each in towers.items()}
        remotes = {name: {"kind": each.kind, "remote": each.url} for name, each in registry.remotes().items()}
        print_json({name: identities[name] | each.as_dict() for name, each in plans.items()} | remotes)
        return
    if plans:
        console().print(board(plans, towers))
    for name, each in registry.remotes().items():
        console().print(f"{name}: remote, at {each.url}", soft_wrap=True)


def measure(settings: Settings, registry: Registry) -> dict[str, Plan]:
    """Measure every configured model that is computed here, as a worker does at startup.

    Raises:
        ConfigError: a model or the device cannot be used.
    """
    from legit_embedding.engine.device.allocator import expand_segments

    backends = registry.backends()
    if not backends:
        return {}
    expand_segments()
    from legit_embedding.engine.engine import Engine

    engine = Engine(backends, settings.engine, settings.device, settings.precision)
    try:
        with _Bar(2 * len(backends)):
            engine.start()
        return engine.plans()
    finally:
        engine.close()


class _Bar(logging.Handler):
    """Progress bar on standard error, moved by the progress log; not shown where nobody looks.

    Args:
        steps: the log records to come.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        screen = console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn())
        self._bar = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
        self._task = self._bar.add_task("Opening the device", total=steps)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        self._bar.update(self._task, advance=1, description=printable(record.getMessage().partition("(")[0].strip()))

    def __enter__(self) -> Self:
        self._bar.start()
        logger.addHandler(self)
        show_progress()
        return self

    def __exit__(self, *_: object) -> None:
        logger.removeHandler(self)
        self._bar.stop()


def board(plans: dict[str, Plan], towers: dict[str, Tower]) -> RenderableType:
    """Lay out the plans as a table, with the meaning of its limits."""
    columns = ("Model", "Speed", "Full batch", "Limited by", "Weights", "Start", "Revision", "Digest")
    rows = [(name, *_figures(each), *_identity(towers[name])) for name, each in plans.items()]
    found = {each.limited_by() for each in plans.values()}
    notes = [f"{limit}: {why}" for limit, why in _LIMITS.items() if limit in found]
    return Group(table("Batches", columns, rows, right=columns[1:3] + columns[4:]), *map(Text, (*notes, _where(plans))))


def _where(plans: dict[str, Plan]) -> str:
    choice = next((each.device for each in plans.values() if each.device is not None), None)
    if choice is None:
        return ""
    return f"Device: {' '.join(filter(None, [choice.device, choice.name, choice.uuid]))}, because {choice.why}"


def _figures(each: Plan) -> tuple[str, ...]:
    from legit_embedding.engine.sizing.profile import in_units

    speed = f"{in_units(each.kind, round(each.speed))}/s"
    started = f"{sum(each.start_s.values()):.1f} s"
    return speed, in_units(each.kind, each.target()), each.limited_by(), decimal(each.weights_bytes), started


def _identity(tower: Tower) -> tuple[str, str]:
    return tower.revision[:_SHORT] or UNKNOWN, tower.digest or UNKNOWN
