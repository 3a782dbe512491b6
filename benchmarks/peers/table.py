"""The measurements as a table, as JSON and as Markdown."""

from __future__ import annotations

import base64
import json
import os
import platform
import statistics
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.environments import TORCH, version_of
from benchmarks.peers.peers import OURS
from benchmarks.report import machine

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.peers.run import Found
    from benchmarks.peers.trial import Speed

NONE = "n/a"
REFERENCE = "sentence-transformers, encode over the whole list"


def report(found: Sequence[Found], options: Namespace, load: Sequence[float], seconds: float) -> None:
    """Print everything, and write it to the file that the options name."""
    rows = [row for each in found if (row := _row(each, found))]
    conditions = {
        "load average before": f"{load[0]:.1f}",
        "load average after": f"{os.getloadavg()[0]:.1f}",
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "turns": options.turns,
        "texts": f"{options.texts} mixed, {options.equal} equal",
        "photos": options.photos,
        "kills": options.kills,
        "seed": options.seed,
        "Python": platform.python_version(),
        "torch": version_of(TORCH, "torch"),
        "seconds": round(seconds),
    }
    failed = {f"failed: {each.peer.name}": " ".join(each.error.split())[-300:] for each in found if each.error}
    details = {name: speeds for each in found for name, speeds in _turns(each)}
    if not rows:
        return
    written = {"rows": rows, "summary": conditions | failed, "turns": details, "machine": machine()}
    print(markdown(written))
    if options.json:
        options.json.write_text(json.dumps(written, indent=2))


def markdown(written: Mapping[str, Any]) -> str:
    """The table of an earlier run, and the sentence under it."""
    rows, summary = written["rows"], written["summary"]
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join([*lines, "", "; ".join(f"{name}: {value}" for name, value in summary.items()) + "."])


def _row(each: Found, found: Sequence[Found]) -> dict[str, Any] | None:
    if not each.mixed:
        return None
    half = each.half_load
    return {
        "": each.peer.name,
        "release": _release(each),
        "mixed, texts/s": _speed(each.mixed),
        "of the best": _ratio(each.mixed, [other.mixed for other in found]),
        "ms of CPU": f"{statistics.median(speed.processor_ms for speed in each.mixed):.1f}",
        "equal, texts/s": _speed(each.equal),
        "of the best ": _ratio(each.equal, [other.equal for other in found]),
        "photos/s": _speed(each.photos),
        "p50 / p99 ms at half load": f"{half.p50_ms:.0f} / {half.p99_ms:.0f}" if half else NONE,
        "memory, MB": f"{each.memory_mb:.0f}",
        "copies": str(each.copies),
        "glue, lines": str(each.peer.glue_lines()),
        "lost / doubled": _accidents(each),
        "least cosine": _agreement(each, found),
    }


def _accidents(each: Found) -> str:
    lost, doubled, tasks = (
        sum(getattr(accident, name) for accident in each.accidents) for name in ("lost", "doubled", "tasks")
    )
    return f"{lost} / {doubled} of {tasks}" if each.accidents else NONE


def _release(each: Found) -> str:
    peer = each.peer
    return version(peer.package) if peer.environment == OURS else version_of(peer.environment, peer.package)


def _speed(speeds: Sequence[Speed]) -> str:
    return f"{statistics.median(speed.items_per_s for speed in speeds):.1f}" if speeds else NONE


def _ratio(speeds: Sequence[Speed], others: Sequence[Sequence[Speed]]) -> str:
    best = max(statistics.median(speed.items_per_s for speed in other) for other in others if other)
    return f"{statistics.median(speed.items_per_s for speed in speeds) / best:.2f}" if speeds else NONE


def _agreement(each: Found, found: Sequence[Found]) -> str:
    """The least cosine between its vectors and those of `encode` (or of the first peer there is)."""
    measured = [other for other in found if other.mixed]
    reference = next((other for other in measured if other.peer.name == REFERENCE), measured[0])
    ours, theirs = each.mixed[0].embeddings, reference.mixed[0].embeddings
    return f"{min(float(_vector(ours[task_id]) @ _vector(theirs[task_id])) for task_id in theirs):.4f}"


def _vector(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")


def _turns(each: Found) -> list[tuple[str, list[float]]]:
    kinds = {"mixed": each.mixed, "equal": each.equal, "photos": each.photos}
    return [
        (f"{each.peer.name}, {kind}, items/s", [speed.items_per_s for speed in speeds])
        for kind, speeds in kinds.items()
        if speeds
    ]
