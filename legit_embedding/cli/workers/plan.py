"""``legit-embedding plan``: measured batch sizes of the models."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from legit_embedding.cli.shared.terminal import console, print_json
from legit_embedding.config import load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from legit_embedding.config import Settings
    from legit_embedding.engine.sizing.profile import Plan
    from legit_embedding.models.registry import Registry
    from legit_embedding.models.tower import Tower

_SHORT = 12
_MEGABYTE = 1024 * 1024


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="JSON: one object by model.")
def plan(as_json: bool) -> None:
    r"""Load the models, measure them on the device, and show their largest batches.

    No worker is started, and Redis is not needed. Costs are in images or padded tokens. Remote models are named, and
    not asked.

    \b
    --json prints
      {MODEL: {"kind", "revision", "digest", "weights_bytes", "bytes": {"base", "slope"}, "seconds": {"base", "slope"},
               "largest", "knee", "speed", "device": {"device", "why", "name", "uuid"},
               "compiled", "start_s": {"load", "measure", "compile"}, …}}
    and {MODEL: {"kind", "remote"}} for a remote model, with its address.
    """
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
        console().print(table(plans, towers))
    for name, each in registry.remotes().items():
        console().print(f"{name}: remote, at {each.url}", soft_wrap=True)


def measure(settings: Settings, registry: Registry) -> dict[str, Plan]:
    """Measure every configured model that is computed here as a worker does at startup, but its knee on a CPU too.

    Raises:
        ConfigError: a model or the device cannot be used.
    """
    from legit_embedding.engine.device.allocator import expand_segments

    backends = registry.backends()
    if not backends:
        return {}
    expand_segments()
    from legit_embedding.engine.device.open import open_device
    from legit_embedding.engine.engine import Engine

    thorough = partial(open_device, thorough=True)
    engine = Engine(backends, settings.engine, settings.device, settings.precision, open_device=thorough)
    try:
        engine.start()
        return engine.plans()
    finally:
        engine.close()


def table(plans: dict[str, Plan], towers: dict[str, Tower]) -> Table:
    """Lay out the plans as a table."""
    from rich.table import Table

    shown = Table(title="Batches", caption=_where(plans))
    shown.add_column("model")
    for column in ("weights MB", "KB per cost", "largest batch", "knee", "full batch", "cost/s", "start s"):
        shown.add_column(column, justify="right")
    shown.add_column("revision")
    shown.add_column("weights")
    for name, each in plans.items():
        tower = towers[name]
        shown.add_row(name, *map(_text, _figures(each)), tower.revision[:_SHORT] or "-", tower.digest or "-")
    return shown


def _where(plans: dict[str, Plan]) -> str:
    choice = next((each.device for each in plans.values() if each.device is not None), None)
    if choice is None:
        return ""
    return f"{' '.join(filter(None, [choice.device, choice.name, choice.uuid]))}: {choice.why}"


def _figures(each: Plan) -> tuple[Any, ...]:
    weights, per_cost = each.weights_bytes / _MEGABYTE, each.bytes.slope / 1024
    return weights, per_cost, each.largest, each.knee, each.target(), each.speed, sum(each.start_s.values())


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
