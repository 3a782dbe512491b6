"""``legit-embedding compare``: compare two sets of results."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from legit_embedding.cli.shared.ages import age
from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.terminal import console, print_json
from legit_embedding.config import load_settings
from legit_embedding.migration.commands.findings import show
from legit_embedding.migration.comparison.histogram import draw
from legit_embedding.migration.comparison.pairing import Expected, pair
from legit_embedding.migration.comparison.sides import FileSource, StreamSource
from legit_embedding.migration.comparison.spill import BUCKETS, Spill
from legit_embedding.migration.comparison.tally import Side, Tally
from legit_embedding.migration.comparison.verdict import problems
from legit_embedding.migration.cutover.share import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import redis
    from rich.progress import Progress

    from legit_embedding.migration.comparison.record import Record
    from legit_embedding.migration.comparison.sides import Source

FILE = ".jsonl"


@click.command("compare")
@click.argument("left")
@click.argument("right")
@click.option("--min-cosine", type=click.FloatRange(-1, 1), default=0.999, show_default=True, help="The limit.")
@click.option("--subset", is_flag=True, help="RIGHT holds only some of the tasks: what it lacks is not missing.")
@click.option(
    "--shadow",
    type=click.FloatRange(0, 100),
    metavar="SHARE",
    help="RIGHT holds the copies of this share of LEFT; only those count.",
)
@click.option("--since", type=age, metavar="AGE", help="A result of one side only, written longer ago, is not missing.")
@click.option(
    "--grace", type=age, metavar="AGE", help="A result of one side only, written within this time, is not missing yet."
)
@click.option("--png", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Draw the cosines here.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
def compare(  # noqa: PLR0913 - one argument an option
    *,
    left: str,
    right: str,
    min_cosine: float,
    subset: bool,
    shadow: float | None,
    since: float | None,
    grace: float | None,
    png: Path | None,
    as_json: bool,
) -> None:
    """Pair the results of LEFT and RIGHT by task id and compare their vectors.

    Each is a result stream, or a .jsonl file as `legit-embedding tail` writes it. The exit code is 0 if every pair has
    a cosine of at least --min-cosine and nothing is missing on either side; otherwise 1.

    Memory use does not grow with the number of results: they are paired in temporary files (below TMPDIR; 3 GB for a
    million 768-d vectors of one side). Quantiles are therefore binned: a quantile is never better than the true one,
    and its distance from 1 is at most 2.4% too large (or 1e-9). Minimum, mean and the worst ten are exact.

    \b
    --json prints
      {"agree", "problems", "min_cosine", "pairs", "cosine": {"min", "mean", "quantiles": {SHARE: COSINE}},
       "worst": [{"task_id", "cosine", "model"}], "left": SIDE, "right": SIDE, "both_failed", "one_failed",
       "one_failed_examples", "dims_differ", "models_differ", "not_judged", "histogram": [{"distance", "pairs"}]}
      SIDE: {"name", "results", "duplicates", "missing", "missing_examples", "errors", "unreadable", "dims",
       "norm_min", "norm_max"}
    """  # noqa: D301 - the escape is click's
    tally = Tally(Side(left), Side(right))
    with ExitStack() as stack:
        sources = _sources(stack, left, right)
        _compare(stack, sources, tally, _expected(since, grace, subset=subset), shadow)
    found = problems(tally, min_cosine)
    if png is not None:
        draw(tally.distances, f"{left} and {right}", min_cosine, png)
    if as_json:
        print_json({"agree": not found, "problems": found, "min_cosine": min_cosine} | tally.as_json())
    else:
        show(console(), tally, min_cosine)
    if found:
        raise click.ClickException("; ".join(found))


def _sources(stack: ExitStack, *names: str) -> list[Source]:
    client: redis.Redis | None = None
    sources: list[Source] = []
    for name in names:
        if name.endswith(FILE):
            sources.append(FileSource(Path(name)))
            continue
        client = client or stack.enter_context(connected(load_settings()))
        sources.append(StreamSource(client, name))
    return sources


def _expected(since: float | None, grace: float | None, *, subset: bool) -> Expected:
    now = time.time()
    expected = Expected(right_is_subset=subset)
    return Expected(
        since_ms=expected.since_ms if since is None else (now - since) * 1000,
        until_ms=expected.until_ms if grace is None else (now - grace) * 1000,
        right_is_subset=subset,
    )


def _compare(stack: ExitStack, sources: list[Source], tally: Tally, expected: Expected, shadow: float | None) -> None:
    left, right = (stack.enter_context(Spill()) for _ in sources)
    progress = stack.enter_context(_progress())
    left.fill(_in_shadow(_read(sources[0], progress), shadow))
    right.fill(_in_shadow(_read(sources[1], progress), shadow))
    pairing = progress.add_task("pairing", total=BUCKETS)
    pair(left, right, tally, expected, lambda: progress.advance(pairing))


def _read(source: Source, progress: Progress) -> Iterator[Record]:
    size = source.size()
    if not size:
        message = f"there is nothing in {source.name}"
        raise click.ClickException(message)
    task = progress.add_task(f"reading {source.name}", total=size)
    try:
        yield from source.records(lambda steps: progress.advance(task, steps))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _in_shadow(records: Iterable[Record], share: float | None) -> Iterator[Record]:
    return (record for record in records if share is None or Subject(record.task_id).within(share, "shadow"))


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
