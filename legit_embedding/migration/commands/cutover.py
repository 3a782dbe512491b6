"""``legit-embedding cutover``: control the new worker's share of the tasks."""

from __future__ import annotations

from contextlib import contextmanager
from math import isnan
from typing import TYPE_CHECKING, Any

import click

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import UNKNOWN, console, print_json
from legit_embedding.config import load_settings
from legit_embedding.migration.cutover.plan import SHADOW_STREAM, Plan, Scope
from legit_embedding.migration.cutover.store import KEY, TTL_S, PlanStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.config import Settings


class Share(click.FloatRange):
    """Click type for a number from 0 to 100."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        """Convert the value; NaN is rejected."""
        share = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number from 0 to 100", param, ctx) if isnan(share) else share


SHARE = Share(0, 100)


@click.group("cutover")
def cutover() -> None:
    """Move tasks from the old fleet to the new worker, share by share, and back.

    Changes take effect within two seconds, without a deploy, on every producer that uses the profile
    celeryconfig.cutover. Tasks that are already queued stay where they are. See docs/migration.md.
    """


@cutover.command("status")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def status(as_json: bool) -> None:
    """Show the current shares.

    \b
    --json prints
      {"share", "rules": [{"share", "app", "model"}], "shadow": {"share", "stream"}, "changed_at",
       "before": the same keys, or null}
    """  # noqa: D301 - the escape is click's
    with _store(load_settings()) as store:
        plan = store.read()
    if as_json:
        print_json(plan.model_dump())
    else:
        _show(plan)


@cutover.command("set")
@click.argument("share", type=SHARE)
@click.option("--app", help="Only this application's tasks.")
@click.option("--model", help="Only this model's tasks; by a producer's settings where a task names none.")
def set_(share: float, app: str | None, model: str | None) -> None:
    """Send SHARE percent of the tasks to the new worker.

    Routing depends on the task id: a larger share includes all the tasks of a smaller one. A share for an application
    or a model overrides the general one until `cutover unset` removes it.
    """
    _change(lambda plan: plan.with_share(share, Scope(app, model)))


@cutover.command("unset")
@click.option("--app", help="The application of the rule.")
@click.option("--model", help="The model of the rule.")
def unset(app: str | None, model: str | None) -> None:
    """Remove the share set for an application or a model."""
    if app is None and model is None:
        message = "name the rule: --app, --model or both, as they were set"
        raise click.UsageError(message)
    _change(lambda plan: plan.without_rule(Scope(app, model)))


@cutover.command("shadow")
@click.argument("share", type=SHARE)
@click.option("--stream", default=SHADOW_STREAM, show_default=True, help="Where the copies' results go.")
def shadow(share: float, stream: str) -> None:
    """Copy SHARE percent of the old fleet's tasks to the new worker.

    The old fleet still answers all of them; the copies' results go to a separate stream, for `compare`. 0 stops the
    copies.
    """
    settings = load_settings()
    if not settings.streams.allows(stream):
        message = f"{stream!r} is outside streams.reply_to_allow: the worker would refuse every copy"
        raise click.BadParameter(message, param_hint="--stream")
    if stream == settings.streams.results:
        message = f"{stream!r} is the default result stream: consumers would get every answer twice"
        raise click.BadParameter(message, param_hint="--stream")
    _change(lambda plan: plan.with_shadow(share, stream))


@cutover.command("rollback")
def rollback() -> None:
    """Send everything to the old fleet again, and stop all copies."""
    with _store(load_settings()) as store:
        _changed(store.roll_back())


def _change(change: Callable[[Plan], Plan]) -> None:
    with _store(load_settings()) as store:
        _changed(store.change(change))


def _changed(plan: Plan) -> None:
    _show(plan)
    click.echo(f"Every producer follows within {TTL_S:g} s.")


@contextmanager
def _store(settings: Settings) -> Iterator[PlanStore]:
    with connected(settings) as client:
        try:
            yield PlanStore(client)
        except ValueError as error:
            message = (
                f"the key {KEY} on {settings.redis.public} holds no plan ({error}); producers go by the last one known"
            )
            raise click.ClickException(message) from error


def _show(plan: Plan) -> None:
    before = plan.before or Plan()
    rows = [("all other tasks" if plan.rules else "all tasks", _percent(plan.share), _percent(before.share))]
    earlier = {rule.scope: _percent(rule.share) for rule in before.rules}
    now = {rule.scope: _percent(rule.share) for rule in plan.rules}
    rows += [(str(scope), now.get(scope, UNKNOWN), earlier.get(scope, UNKNOWN)) for scope in (now | earlier)]
    rows.append((f"copies, to {plan.shadow.stream}", _percent(plan.shadow.share), _percent(before.shadow.share)))
    shares = ("to the new worker", "before")
    console().print(table("Cutover", ("", *shares), rows, right=shares))


def _percent(share: float) -> str:
    return f"{share:g} %"
