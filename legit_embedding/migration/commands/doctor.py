"""``legit-embedding doctor``: check a deployment before the cutover."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
from rich.text import Text

from legit_embedding.cli.shared.ages import age
from legit_embedding.cli.shared.connection import client
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, counted, print_json, printable
from legit_embedding.config import load_settings
from legit_embedding.migration.checks import LOCAL, ON_BROKER, ON_REDIS, examine
from legit_embedding.migration.checks.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

    from legit_embedding.migration.checks.finding import Finding, Level

NAMES = [*LOCAL, *ON_REDIS, *ON_BROKER]
STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command("doctor")
@click.option("--longest-task", type=age, metavar="AGE", help="The duration of the longest task, as 90s or 10min.")
@click.option("--load-models", is_flag=True, help="Load every model once, on the CPU: slow, but says whether it works.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds for workers to answer."
)
@click.option("--only", type=click.Choice(NAMES), multiple=True, metavar="CHECK", help="Only this check; repeatable.")
@click.option("--json", "as_json", is_flag=True, help='JSON: {"checks": [{"check", "level", "what", "todo"}]}.')
def doctor(
    *, longest_task: float | None, load_models: bool, timeout: float, only: tuple[str, ...], as_json: bool
) -> None:
    """Check a deployment before the cutover, and say what to fix.

    Run it where the new worker will run, with its settings, while the old fleet is up. Nothing is changed. The exit
    code is 1 if a check fails; a warning may be intended.
    """
    settings = load_settings()
    with client(settings) as redis:  # whether it reaches the server is a finding
        deployment = Deployment(
            settings,
            redis,
            settings.redis.public,
            _app(),
            longest_task_s=longest_task,
            inspect_s=timeout,
            load_models=load_models,
        )
        findings = list(examine(deployment, only))
    _show(findings, as_json=as_json)
    failed = [name for name, finding in findings if finding.level == "fail"]
    if failed:
        message = f"to mend: {', '.join(failed)}"
        raise click.ClickException(message)


def _app() -> Celery:
    from legit_embedding.celery import app

    return app


def _show(findings: Iterable[tuple[str, Finding]], *, as_json: bool) -> None:
    if as_json:
        lines = [{"check": name, "level": each.level, "what": each.what, "todo": each.todo} for name, each in findings]
        print_json({"checks": lines})
        return
    rows = [(Text(each.level, STYLES[each.level]), name, _told(each)) for name, each in findings]
    console().print(table("Doctor", ("", "check", "finding"), rows))
    levels = Counter(each.level for _, each in findings)
    click.echo(_verdict(levels))


def _verdict(levels: Counter[Level]) -> str:
    if levels["fail"]:
        return f"{counted(levels['fail'], 'check fails', 'checks fail')}: mend what they say before the cutover."
    if levels["warn"]:
        return f"No check fails; {counted(levels['warn'], 'warning', 'warnings')} to read."
    return "Every check passes."


def _told(finding: Finding) -> Text:
    told = Text(printable(finding.what))
    return told.append(f"\n-> {printable(finding.todo)}") if finding.todo else told
