"""``legit-embedding devices``: the GPUs of this host, and the command that starts a worker on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legit_embedding.cli.shared.terminal import console, print_json

if TYPE_CHECKING:
    from legit_embedding.engine.device.placement import Place


@click.command("devices")
@click.option("--json", "as_json", is_flag=True, help="JSON: a list of the GPUs.")
def devices(as_json: bool) -> None:
    """List the GPUs of this host, and print the command that starts a worker on each.

    Each worker sees only its own GPU, is pinned to its share of the CPU cores near that GPU, and is named after it.

    \b
    --json prints [{"index", "uuid", "name", "node", "cpus", "command"}, …]
    """  # noqa: D301 - the escape is click's
    from legit_embedding.engine.device import nvml, placement

    driver = nvml.read()
    places = placement.places(nvml.visible(driver.gpus)) if driver is not None else []
    if as_json:
        print_json([each.as_dict() for each in places])
        return
    if not places:
        raise click.ClickException("there is no GPU that this process may see")
    for each in places:
        _print(each)


def _print(place: Place) -> None:
    node = f"NUMA node {place.node}, " if place.node is not None else ""
    console().print(f"[bold]# {place.index}: {place.name}[/bold], {node}cores {place.cpus or 'not known'}")
    click.echo(place.command)
