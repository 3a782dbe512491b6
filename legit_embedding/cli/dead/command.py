"""``legit-embedding dead``: inspect, requeue and purge the dead letter."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, count, counted, duration, print_json, say, value
from legit_embedding.config import load_settings
from legit_embedding.dead_letter.store import PAGE, DeadLetter
from legit_embedding.redis_io.entries import FIRST, age, entry_id, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.dead_letter.store import Header, Requeued

REASON = click.option("--reason", default="", help="Only entries with this dead_reason.")
ALL = click.option("--all", "everything", is_flag=True, help="Every entry that is there now.")
IDS = click.argument("ids", nargs=-1, type=entry_id, metavar="[ID]...")
JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


@click.group("dead")
def dead() -> None:
    """Inspect the dead letter, requeue its tasks, or delete them."""


@dead.command("list")
@click.option("--count", "limit", type=click.IntRange(1), default=20, show_default=True, help="The number to show.")
@click.option("--after", type=entry_id, default=FIRST, metavar="ID", help="Go on after this entry.")
@REASON
@JSON
def list_entries(limit: int, after: str, reason: str, as_json: bool) -> None:
    """List the entries, oldest first, one page at a time.

    --json prints {"stream", "length", "entries", "next"}; each entry has "id", "bytes", "dead_reason", "dead_detail",
    "deliveries", "original_stream", "original_id" and "dead_at". "next" is the --after value of the next page, or null
    on the last one.
    """
    with _dead_letter() as letter:
        found = list(islice(chain.from_iterable(letter.roll(reason, after)), limit + 1))
        shown, more = found[:limit], found[limit:]
        following = shown[-1].id if more else None
        if as_json:
            entries = [header.as_json() for header in shown]
            print_json({"stream": letter.stream, "length": len(letter), "entries": entries, "next": following})
        else:
            _print_list(letter, shown)
            if following:
                say(f"there are more: --after {following}")


def _print_list(letter: DeadLetter, headers: list[Header]) -> None:
    now = time.time()
    rows = [
        (each.id, duration(age(each.id, now)), each.dead_reason, each.deliveries, decimal(each.bytes), each.dead_detail)
        for each in headers
    ]
    columns = ("Entry", "Age", "Reason", "Tries", "Size", "Detail")
    title = f"{letter.stream}: {count(len(headers))} of {count(len(letter))}"
    console().print(table(title, columns, rows, right=("Age", "Tries", "Size")))


@dead.command("show")
@click.argument("entry", type=entry_id, metavar="ID")
@click.option("--full", is_flag=True, help="Do not shorten long values.")
@JSON
def show(entry: str, full: bool, as_json: bool) -> None:
    """Show one entry with all its fields.

    --json prints {"id", "fields"}, with every value in full as text; bytes that are not UTF-8 are escaped.
    """
    with _dead_letter() as letter:
        fields = letter.find(entry)
        if fields is None:
            message = f"there is no entry {entry} in {letter.stream}"
            raise click.ClickException(message)
    if as_json:
        print_json({"id": entry, "fields": texts(fields)})
    else:
        rows = [(name, value(content, full=full)) for name, content in texts(fields).items()]
        console().print(table(entry, ("Field", "Value"), rows))


@dead.command("requeue")
@IDS
@ALL
@REASON
@JSON
def requeue(ids: tuple[str, ...], everything: bool, reason: str, as_json: bool) -> None:
    """Move entries back into the task stream, unchanged.

    Only entries that came from the configured task stream are moved. Each entry moves in one atomic step, so it is
    never lost or duplicated; it gets a new id, its delivery count starts from one again, and it gets a result again.

    --json prints one object per entry: {"id", "new_id", "problem"}, where either "new_id" or "problem" is null. The
    exit code is 1 if any entry was not moved.
    """
    _check_choice(ids, everything=everything, reason=reason)
    done = left = 0
    with _dead_letter() as letter:
        for page in _chosen(letter, ids, reason):
            outcomes = letter.requeue(page)
            for outcome in outcomes:
                _tell(outcome, as_json=as_json)
            problems = sum(outcome.problem is not None for outcome in outcomes)
            done, left = done + len(outcomes) - problems, left + problems
    if not as_json:
        click.echo(f"{count(done)} back in the task stream, {count(left)} left in {letter.stream}")
    if left:
        raise click.exceptions.Exit(1)


def _tell(outcome: Requeued, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": outcome.id, "new_id": outcome.new_id, "problem": outcome.problem})
    elif outcome.problem:
        say(f"{outcome.id}: {outcome.problem}")


@dead.command("purge")
@IDS
@ALL
@REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def purge(ids: tuple[str, ...], everything: bool, reason: str, yes: bool, as_json: bool) -> None:
    """Delete entries permanently.

    --json prints {"purged", "missing"}: how many entries were deleted, and how many did not exist.
    """
    _check_choice(ids, everything=everything, reason=reason)
    purged = chosen = 0
    with _dead_letter() as letter:
        if not yes:
            click.confirm(f"Throw away {_described(ids, reason)} of {letter.stream} for good?", abort=True, err=True)
        for page in _chosen(letter, ids, reason):
            purged, chosen = purged + letter.purge(page), chosen + len(page)
    if as_json:
        print_json({"purged": purged, "missing": chosen - purged})
    else:
        click.echo(f"{count(purged)} thrown away")


def _described(ids: tuple[str, ...], reason: str) -> str:
    if ids:
        return counted(len(ids), "entry", "entries")
    return f"every entry with the reason {reason!r}" if reason else "every entry"


@contextmanager
def _dead_letter() -> Iterator[DeadLetter]:
    settings = load_settings()
    with connected(settings) as client:
        yield DeadLetter(client, settings.streams)


def _check_choice(ids: tuple[str, ...], *, everything: bool, reason: str) -> None:
    if bool(ids) == everything:
        message = "name entries by their ids, or all of them by --all"
        raise click.UsageError(message)
    if reason and not everything:
        message = "--reason goes with --all"
        raise click.UsageError(message)


def _chosen(letter: DeadLetter, ids: tuple[str, ...], reason: str) -> Iterator[list[str]]:
    """Yield pages of ids to process: the ids that were given, or else those of all entries with the given reason."""
    if ids:
        distinct = list(dict.fromkeys(ids))
        yield from (distinct[start : start + PAGE] for start in range(0, len(distinct), PAGE))
    else:
        yield from ([header.id for header in page] for page in letter.roll(reason))
