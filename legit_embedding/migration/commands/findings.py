"""Tables of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import UNKNOWN, count, counted
from legit_embedding.migration.comparison.distances import QUANTILES
from legit_embedding.migration.comparison.verdict import problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from legit_embedding.migration.comparison.tally import Side, Tally


def show(console: Console, tally: Tally, min_cosine: float) -> None:
    """Print the contents of both sides, the distribution of the cosines, the worst pairs, and whether they agree."""
    console.print(Group(*_parts(tally, min_cosine)))


def _parts(tally: Tally, min_cosine: float) -> Iterator[RenderableType]:
    yield _sides(tally.left, tally.right)
    if tally.distances.count:
        yield _cosines(tally, min_cosine)
        rows = [(pair.task_id, f"{pair.cosine:.9f}", pair.model) for pair in tally.worst]
        yield table("The worst", ("task", "cosine", "model"), rows, right=("cosine",))
    if notes := list(_notes(tally)):
        yield Text("\n".join(notes))
    if not problems(tally, min_cosine):
        pairs = counted(tally.distances.count, "pair", "pairs")
        yield Text(f"They agree: {pairs} of vectors, the smallest cosine {tally.distances.least:.6f}.", style="bold")


def _sides(*sides: Side) -> RenderableType:
    names = [side.name for side in sides]
    rows = [
        ("results", *(count(side.results) for side in sides)),
        ("missing", *(count(side.missing) for side in sides)),
        ("duplicates", *(count(side.duplicates) for side in sides)),
        ("errors", *(_counted(side.errors) for side in sides)),
        ("unreadable", *(count(side.unreadable) for side in sides)),
        ("dims", *(_counted(side.dims) for side in sides)),
        ("norms", *(_norms(side) for side in sides)),
    ]
    return table("Results", ("", *names), rows, right=names)


def _counted(counts: dict[str, int] | dict[int, int]) -> str:
    if not counts:
        return count(0)
    return ", ".join(
        f"{name}: {count(number)}" for name, number in sorted(counts.items(), key=lambda item: str(item[0]))
    )


def _norms(side: Side) -> str:
    return f"{side.norm_least:.6f} to {side.norm_most:.6f}" if side.dims else UNKNOWN


def _cosines(tally: Tally, min_cosine: float) -> RenderableType:
    rows = [("limit", f"{min_cosine:g}"), ("minimum", f"{tally.distances.least:.9f}")]
    rows += [(_share(share), f"{tally.distances.quantile(share):.9f}") for share in QUANTILES if share]
    rows.append(("mean", f"{tally.distances.mean:.9f}"))
    title = f"Cosines of {counted(tally.distances.count, 'pair', 'pairs')}"
    return table(title, ("", "cosine"), rows, right=("cosine",))


def _share(share: float) -> str:
    return f"{share:.2%} are at or below".replace(".00%", "%")


def _notes(tally: Tally) -> Iterator[str]:
    for side in (tally.left, tally.right):
        if side.missing:
            more = " …" if side.missing > len(side.missing_examples) else ""
            yield f"missing in {side.name}: {', '.join(side.missing_examples)}{more}"
    if tally.one_failed_count:
        more = " …" if tally.one_failed_count > len(tally.one_failed) else ""
        yield f"an error on one side only: {', '.join(tally.one_failed)}{more}"
    if tally.both_failed:
        yield f"an error on both sides: {counted(tally.both_failed, 'task', 'tasks')}"
    if tally.models_differ:
        yield f"the model's name differs: {counted(tally.models_differ, 'pair', 'pairs')}"
    if tally.not_judged:
        yield f"on one side only, and not judged: {counted(tally.not_judged, 'task', 'tasks')}"
