"""``legit-embedding tail``: read results and decode their vectors."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from legit_embedding.cli.results.lines import Lines
from legit_embedding.cli.results.results import Filter, Reader
from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.terminal import say
from legit_embedding.config import load_settings
from legit_embedding.redis_io.entries import FIRST, entry_id, newest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from legit_embedding.cli.results.outputs import Output
    from legit_embedding.cli.results.results import ResultEntry, Vectors

BEGINNING, END = "0", "$"

OUTPUT_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("tail")
@click.option("--stream", metavar="NAME", help="The result stream.  [default: streams.results]")
@click.option(
    "--from",
    "start",
    type=lambda value: value if value in {BEGINNING, END} else entry_id(value),
    metavar="0|$|ID",
    help="Begin with the oldest entry, with the next one to come, or after this one.  [default: 0; with --follow: $]",
)
@click.option("--count", "limit", type=click.IntRange(1), help="End after this many results.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--status", type=click.Choice(["ok", "error"]), help="Only results with this status.")
@click.option("--model", help="Only results of this model; an error result names none.")
@click.option("--app", help="Only results for this application.")
@click.option(
    "--vectors",
    type=click.Choice(["none", "base64", "floats"]),
    show_default="floats, shortened on a terminal",
    help="The form in which vectors are printed.",
)
@click.option("--npy", type=OUTPUT_FILE, help="Write the vectors to this .npy file, and NAME.ids.jsonl beside it.")
@click.option("--parquet", type=OUTPUT_FILE, help="Write the results to this Parquet file.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def tail(  # noqa: PLR0913 - one argument an option
    *,
    stream: str | None,
    start: str | None,
    limit: int | None,
    follow: bool,
    status: str | None,
    model: str | None,
    app: str | None,
    vectors: Vectors | None,
    npy: Path | None,
    parquet: Path | None,
    force: bool,
) -> None:
    """Read a result stream as JSON lines, or export it to a NumPy array or a Parquet file.

    Reading removes nothing. Every line has its "id" and those of the result entry's keys that are set:
    "task_id", "status", "kind", "model", "dim", "embedding" (a list of numbers; with --vectors base64 text, and
    "encoding"), "error", "detail", "app", "metadata" (an object), "source", "worker", "prep_ms", "queue_ms",
    "compute_ms", "truncated" and "repaired" (booleans). A vector that cannot be decoded is null, and a line on
    standard error says why.

    To continue where an earlier call ended, pass its last "id" to --from.
    """
    if npy and parquet:
        message = "either --npy or --parquet"
        raise click.UsageError(message)
    settings = load_settings()
    wanted = Filter(status, model, app)
    with connected(settings) as client:
        name = stream or settings.streams.results
        reader = Reader(client, name, say)
        after = _after(client, name, start or (END if follow else BEGINNING))
        with _closing(_output(npy, parquet, vectors, force=force)) as output:
            for page in _limited(reader.followed(after) if follow else reader.kept(after), wanted, limit):
                output.write(page)


def _after(client: redis.Redis, stream: str, start: str) -> str:
    if start == END:
        return newest(client, stream)
    return FIRST if start == BEGINNING else start


def _output(npy: Path | None, parquet: Path | None, vectors: Vectors | None, *, force: bool) -> Output:
    if npy is not None:
        from legit_embedding.cli.results.npy import NpyFile

        return NpyFile(npy, force=force, say=say)
    if parquet is not None:
        from legit_embedding.cli.results.parquet import ParquetFile

        return ParquetFile(parquet, force=force, say=say)
    return Lines(vectors, say)


@contextmanager
def _closing(output: Output) -> Iterator[Output]:
    """Close the output, after an error too, and print its closing message."""
    try:
        yield output
    finally:
        summary = output.close()
        if summary:
            say(summary)


def _limited(pages: Iterator[list[ResultEntry]], wanted: Filter, limit: int | None) -> Iterator[list[ResultEntry]]:
    """Yield the wanted results up to the limit; pages may be empty."""
    found = 0
    for page in pages:
        taken = list(islice(filter(wanted.takes, page), None if limit is None else limit - found))
        found += len(taken)
        yield taken
        if found == limit:
            return
