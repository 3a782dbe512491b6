"""``legit-embedding search``: the nearest vectors to a text or an image."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from legit_embedding.cli.search.index import nearest, open_index
from legit_embedding.cli.search.query import ask
from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.space import Space
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, print_json
from legit_embedding.config import load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.config import Settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("search")
@click.argument("text", required=False)
@click.option("--image", type=FILE, help="Search by this image instead of a text.")
@click.option("--in", "path", required=True, type=FILE, help="A .npy or .parquet file that `embed` wrote.")
@click.option("--model", help="The model.  [default: that of the file]")
@click.option("--prompt-name", help="The model's prompt for the text, such as query.")
@click.option("--dimensions", type=click.IntRange(1), help="The length of the file's vectors, if it was cut.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="The number to show.")
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds to wait for the worker."
)
@click.option("--json", "as_json", is_flag=True, help="JSON, one object per line.")
def search(  # noqa: PLR0913 - one argument an option
    text: str | None,
    *,
    image: Path | None,
    path: Path,
    model: str | None,
    prompt_name: str | None,
    dimensions: int | None,
    top: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Find the nearest vectors of a file to a text or an image, which a running worker embeds.

    --json prints {"rank", "task_id", "kind", "cosine"}.
    """
    if (text is None) == (image is None):
        message = "expected either a text or --image"
        raise click.UsageError(message)
    index, settings = open_index(path), load_settings()
    if model not in {None, index.space.model}:
        message = f"{path} holds vectors of {index.space}, not of {model}"
        raise click.ClickException(message)
    options = {"model": index.space.model, "prompt_name": prompt_name, "dimensions": dimensions}
    content = {"text": text} if image is None else {"image_b64": base64.b64encode(image.read_bytes()).decode("ascii")}
    query, space = _embedded(settings, content | {name: each for name, each in options.items() if each}, timeout)
    if space != index.space:
        message = f"{path} holds vectors of {index.space}, and the worker answered with one of {space}"
        raise click.ClickException(message)
    found = nearest(index, query, top)
    names = index.names({row for row, _ in found})
    ranked = [(rank, *names[row], cosine) for rank, (row, cosine) in enumerate(found, start=1)]
    if as_json:
        for rank, task_id, kind, cosine in ranked:
            print_json({"rank": rank, "task_id": task_id, "kind": kind, "cosine": round(cosine, 6)})
        return
    rows = [(str(rank), task_id, kind, f"{cosine:.3f}") for rank, task_id, kind, cosine in ranked]
    title = f"Nearest to {text if image is None else image} by {space}"
    console().print(table(title, ("Rank", "Id", "Kind", "Cosine"), rows, right=("Rank", "Cosine")))


def _embedded(settings: Settings, content: dict[str, Any], timeout_s: float) -> tuple[NDArray[np.float32], Space]:
    with connected(settings) as client:
        entry = ask(client, settings.streams, content, timeout_s)
    try:
        vector = entry.vector()
    except ValueError as error:
        message = f"the answer's vector cannot be read: {error}"
        raise click.ClickException(message) from error
    if vector is None:
        message = "the answer has no vector"
        raise click.ClickException(message)
    return vector, Space.of(entry.fields, len(vector))
