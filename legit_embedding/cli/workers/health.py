"""``legit-embedding health``: worker health check, for people and container probes."""

from __future__ import annotations

import os

import click
from celery.utils.nodenames import default_nodename, host_format

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.terminal import print_json
from legit_embedding.cli.workers.fleet import look
from legit_embedding.config import load_settings
from legit_embedding.telemetry.health import WELL
from legit_embedding.telemetry.identity import identity

NODENAME_VARIABLE = "CELERY_WORKER_HOSTNAME"
"""Environment variable that ``celery worker`` reads for ``-n`` too."""


@click.command("health")
@click.option("--worker", metavar="NAME", help="The worker's identity; by default that of a worker of this host.")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object.")
def health(worker: str | None, as_json: bool) -> None:
    """Check the health of a worker: exit code 0 if it is healthy, 1 if not.

    A worker publishes its state in Redis every few seconds. It is healthy if it did so recently, has loaded its models
    and has found no problem: the device loop makes progress, results can be written, the task stream can be read, and
    no model fails. It is degraded, and still healthy, while a remote model is away or slow.
    Without --worker the name is LEGIT_WORKER_ID, or else CELERY_WORKER_HOSTNAME, or else the node name that a worker
    without -n has on this host.

    \b
    --json prints
      {"worker", "healthy", "state", "problem"}
    "state" is starting, running, degraded, unhealthy or stopping, or null if no such worker has been seen recently.
    """  # noqa: D301 - the escape is click's
    settings = load_settings()
    name = worker or identity(settings, host_format(default_nodename(os.environ.get(NODENAME_VARIABLE))))
    with connected(settings) as client:
        fleet = look(client)
    found = next((each for each in fleet.workers if each.worker == name), None)
    well = found is not None and found.state in WELL
    problem = found.problem if found is not None else _absent(name, [each.worker for each in fleet.workers])
    if as_json:
        state = found.state if found is not None else None
        print_json({"worker": name, "healthy": well, "state": state, "problem": problem})
    elif found is not None and well:
        click.echo(f"{name} is {found.state}: {found.problem}".rstrip(": "))
    if well:
        return
    if as_json:
        raise click.exceptions.Exit(1)
    raise click.ClickException(f"{name} is {found.state}: {problem}".rstrip(": ") if found is not None else problem)


def _absent(name: str, others: list[str]) -> str:
    known = f"there are {', '.join(sorted(others))}" if others else "there are none"
    return f"no worker {name!r} has shown itself lately; {known}"
