"""``legit-embedding embed``: files in, a file of vectors out."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from redis.exceptions import RedisError

from legit_embedding.cli.embed.exchange import Exchange
from legit_embedding.cli.embed.inputs import survey
from legit_embedding.cli.embed.journal import Journal, Run
from legit_embedding.cli.embed.outputs import NPY, blocks, ids_file, writer
from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.failures import one_line
from legit_embedding.cli.shared.lazy import INTERRUPTED
from legit_embedding.cli.shared.replies import reply_stream
from legit_embedding.cli.shared.terminal import console, count, counted, print_json, rate
from legit_embedding.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.cli.embed.inputs import Inputs
    from legit_embedding.cli.submit.folder import By


class StoppedRunError(click.ClickException):
    """The run ended early."""

    def __init__(self, why: str, journal: Journal) -> None:
        super().__init__(f"{why.rstrip('.')}; {count(journal.answered)} answered; the same command goes on")


class InterruptedRunError(StoppedRunError):
    """The user ended the run."""

    exit_code = INTERRUPTED


@click.command("embed")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .npy or .parquet file to write."
)
@click.option("--model", help="For tasks that name none.")
@click.option(
    "--by",
    type=click.Choice(["path", "content"]),
    help="For a folder: whether a task names its image's path or carries the image. "
    "[default: path below image_roots, content elsewhere]",
)
@click.option("--force", is_flag=True, help="Replace the file, and begin an unfinished run anew.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def embed(source: Path, *, out: Path, model: str | None, by: By | None, force: bool, as_json: bool) -> None:
    """Embed files by way of the running workers, and write the vectors in the order of the inputs.

    SOURCE is a folder of images or a JSONL file with one task object per line, as for `submit`. At most 2,000 tasks
    wait for their answers at a time.

    A .npy file is a float32 array; line N of NAME.ids.jsonl beside it describes row N. A .parquet file has the columns
    task_id, kind and embedding, and the model in its metadata. An image's task_id is its path below the folder; a task
    without one gets its line number. Inputs that failed are left out and reported, and the exit code is 1.

    What is answered is kept in OUT.part until the run is finished: the same command goes on where a call ended.

    --json prints {"out", "inputs", "vectors", "failed": {CODE: NUMBER}, "model", "revision", "dim", "seconds"}.
    """
    write, settings = writer(out), load_settings()
    part = out.with_name(f"{out.name}.part")
    if out.exists() and not part.exists() and not force:
        message = f"{out} is there already; --force replaces it"
        raise click.ClickException(message)
    inputs = survey(source, by, settings)
    if not inputs.count:
        message = f"there is nothing to embed in {source}"
        raise click.ClickException(message)
    if force:
        shutil.rmtree(part, ignore_errors=True)
    began = time.monotonic()
    run = Run(str(source.resolve()), inputs.digest, inputs.size, model, inputs.by)
    journal = Journal(part, run, reply_stream(settings.streams, "embed"))
    with _closing(journal), connected(settings) as client, _shown(journal, inputs.count) as on_answers:
        exchange = Exchange(client, settings.streams.tasks, journal, on_answers)
        exchange.run(inputs, model)
        if journal.form is not None:
            new = part / f"out{out.suffix}"
            write(new, journal.form, journal.received, blocks(inputs, journal))
            if out.suffix == NPY:
                ids_file(new).replace(ids_file(out))
            new.replace(out)
        exchange.forget()
    journal.remove()
    _sum_up(out, inputs, journal, time.monotonic() - began, as_json=as_json)


@contextmanager
def _closing(journal: Journal) -> Iterator[None]:
    """Close the journal, and say how far it got and how to go on if it ends early."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted", journal) from None
    except (RedisError, OSError) as error:
        why = f"Redis: {one_line(error)}" if isinstance(error, RedisError) else one_line(error)
        raise StoppedRunError(why, journal) from error
    finally:
        journal.close()


@contextmanager
def _shown(journal: Journal, total: int) -> Iterator[Callable[[], None]]:
    """Show the answers as a bar on standard error, if it is a terminal."""
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    screen = console(stderr=True)
    with bars.Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        line = bar.add_task("embedding", total=total, completed=journal.answered)
        yield lambda: bar.update(line, completed=journal.answered)


def _sum_up(out: Path, inputs: Inputs, journal: Journal, seconds: float, *, as_json: bool) -> None:
    failures = journal.failures
    vectors, failed = journal.received, failures.counts.total()
    space = journal.form.space if journal.form else None
    if as_json:
        about = {name: getattr(space, name, None) for name in ("model", "revision", "dim")}
        summary = {"out": str(out), "inputs": vectors + failed, "vectors": vectors, "failed": dict(failures.counts)}
        print_json(summary | about | {"seconds": round(seconds, 3)})
    elif space is not None:
        speed = rate(vectors / max(seconds, 1e-6))
        click.echo(f"{counted(vectors, 'vector', 'vectors')} of {space} in {out}, {seconds:.1f} s, {speed}")
    if failed:
        if not as_json:
            wanted = {example.position for examples in failures.examples.values() for example in examples}
            console().print(failures.board({at: name for at, name in inputs.ids() if at in wanted}))
        message = f"{count(failed)} of {counted(vectors + failed, 'input', 'inputs')} failed"
        raise click.ClickException(message)
