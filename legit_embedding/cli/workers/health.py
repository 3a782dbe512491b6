"""``legit-embedding health``: worker health check, for people and container probes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click
from celery.utils.nodenames import default_nodename, host_format

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.terminal import print_json, printable, say
from legit_embedding.config import load_settings
from legit_embedding.telemetry.fleet import look
from legit_embedding.telemetry.health import WELL
from legit_embedding.telemetry.identity import identity
from legit_embedding.telemetry.place import place

if TYPE_CHECKING:
    from legit_embedding.config import Settings
    from legit_embedding.telemetry.fleet import Fleet, Shown

NODENAME_VARIABLE = "CELERY_WORKER_HOSTNAME"
"""Environment variable that ``celery worker`` reads for ``-n`` too."""

OF_MODEL: tuple[str, ...] = ("loaded", "last_ok_s", "waiting", "breaker")


@click.command("health")
@click.option(
    "--worker", metavar="NAME", help="The worker's identity; by default the workers of this container or host."
)
@click.option("--all", "everyone", is_flag=True, help="Every worker of the group.")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object; with --all a list of them.")
def health(worker: str | None, everyone: bool, as_json: bool) -> None:
    """Check the health of a worker: exit code 0 if it is healthy, 1 if not.

    A worker publishes its state in Redis every few seconds. It is healthy if it did so recently, has loaded its models
    and has found no problem: the device loop makes progress, results can be written, the task stream can be read, and
    no model fails. A warning does not make it unhealthy; nor does a remote model that is away or slow: it is degraded.
    Without --worker the workers of this container or host are checked, whatever their names; all of them have to be
    healthy.

    \b
    --json prints
      {"worker", "healthy", "state", "problem", "warning", "role",
       "models": {NAME: {"loaded", "last_ok_s", "waiting", "breaker"}}}
    "state" is starting, running, degraded, unhealthy or stopping, or null if no such worker has been seen recently.
    "last_ok_s" is the number of seconds since the last good batch, null before the first. Only remote models have a
    "breaker", open or closed.
    "role" is prep-only for a worker that prepares items for others.
    """  # noqa: D301 - the escape is click's
    settings = load_settings()
    with connected(settings) as client:
        fleet = look(client)
    if everyone:
        checked = [_of(each) for each in fleet.workers] + [_gone(name, fleet) for name in fleet.lost]
    else:
        checked = [_of(each) for each in _chosen(settings, worker, fleet)]
    checked = checked or [_gone(worker or _name_here(settings), fleet)]
    unwell = [each for each in checked if not each.healthy]
    if as_json:
        print_json([asdict(each) for each in checked] if everyone else asdict((unwell or checked)[0]))
    else:
        for each in checked:
            each.tell()
    if unwell and as_json:
        raise click.exceptions.Exit(1)
    if unwell:
        raise click.ClickException("; ".join(each.sentence() for each in unwell))


@dataclass(frozen=True, slots=True)
class Checked:
    """The health of one worker; the field names are the keys of ``--json``."""

    worker: str
    healthy: bool
    state: str | None
    problem: str
    warning: str = ""
    role: str = ""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def tell(self) -> None:
        """Print a healthy worker's state, and any worker's warning."""
        if self.healthy:
            click.echo(self.sentence())
        if self.warning:
            say(f"Warning of {self.worker}: {self.warning}")

    def sentence(self) -> str:
        """Describe the worker's health."""
        if self.state is None:
            return self.problem
        role = f" ({self.role})" if self.role else ""
        return printable(f"{self.worker}{role} is {self.state}: {self.problem}".rstrip(": "))


def _of(shown: Shown) -> Checked:
    is_well = shown.state in WELL
    models = {name: {key: model[key] for key in OF_MODEL if key in model} for name, model in shown.models.items()}
    return Checked(shown.worker, is_well, shown.state, shown.problem, shown.warning, shown.role, models)


def _gone(name: str, fleet: Fleet) -> Checked:
    others = sorted(each.worker for each in fleet.workers)
    known = f"there are {', '.join(others)}" if others else "there are none"
    return Checked(name, False, None, f"no worker {name!r} has shown itself lately; {known}")


def _chosen(settings: Settings, name: str | None, fleet: Fleet) -> list[Shown]:
    """The named worker, or those of this place, or else the one that has the name of a worker here."""
    here = place()
    found = [each for each in fleet.workers if each.place == here] if name is None else []
    wanted = name or _name_here(settings)
    return found or [each for each in fleet.workers if each.worker == wanted]


def _name_here(settings: Settings) -> str:
    return identity(settings, host_format(default_nodename(os.environ.get(NODENAME_VARIABLE))))
