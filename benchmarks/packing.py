"""Padding: the packer's batches against batches in the order of arrival, on MiniLM and real texts of mixed lengths.

The same texts, the same largest cost of a batch, the bare model on the CPU (or on a GPU, where torch sees one). A batch
in the order of arrival ends where the next text would make it too large with its padding. For the packer so many texts
wait at a time, as they do in a worker, and others take the place of those that leave: it never sees all of them.

    python -m benchmarks.packing
"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import minilm
from benchmarks.report import arguments, show
from legit_embedding.engine.batching.packer import Limits, padded_cost, shelf_for
from legit_embedding.engine.delivery import Delivery
from legit_embedding.engine.device.open import open_device
from legit_embedding.models.transformers import TransformersModel
from tests.texts import texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from legit_embedding.models.backend import Prepared

GOAL = 0.10
FULL = {"cpu": 3276, "cuda": 65536}
"""Padded tokens of a full batch."""


class Text(Delivery):
    """One text; nobody waits for its vector."""

    def __init__(self, prepared: Prepared, arrived: float) -> None:
        self.model = "texts"
        self.prepared = prepared
        self.deadline = None
        self.cancelled = None
        self.queued_at = arrived

    def done(self, *_: object) -> None:
        """Nobody waits."""

    def failed(self, _: object) -> None:
        """Nobody waits."""

    def given_back(self) -> None:
        """Nobody waits."""


def in_order(prepared: Sequence[Prepared], limits: Limits) -> list[list[Prepared]]:
    """Cut where the padded batch would be too large."""
    batches: list[list[Prepared]] = [[]]
    for item in prepared:
        grown = [*batches[-1], item]
        if len(grown) > limits.items or padded_cost("text", [each.cost for each in grown]) > limits.cost:
            batches.append([item])
        else:
            batches[-1] = grown
    return batches


def packed(prepared: Sequence[Prepared], limits: Limits, window: int) -> list[list[Prepared]]:
    """The batches that the engine's packer makes of them when so many wait at a time."""
    shelf = shelf_for("text")
    coming = iter(enumerate(prepared))
    batches = []

    def refill(items: Iterable[tuple[int, Prepared]]) -> None:
        for number, item in items:
            shelf.add(Text(item, number))
            if len(shelf) >= window:
                return

    refill(coming)
    while len(shelf):
        batches.append([delivery.prepared for delivery in shelf.pack(limits, time.time()).deliveries])
        if len(shelf) < window:
            refill(coming)
    return batches


def waste(batches: Sequence[list[Prepared]]) -> float:
    """The part of the model's work that is padding."""
    useful = sum(item.cost for batch in batches for item in batch)
    return 1 - useful / sum(padded_cost("text", [item.cost for item in batch]) for batch in batches)


class Bare:
    """MiniLM on the device."""

    def __init__(self, text_model: str) -> None:
        self._device = open_device("auto")
        self._model = TransformersModel("texts", minilm.config(text_model))
        self._model.load(self._device.torch_device, self._device.dtype("auto"))
        self.prepared = self._model.recipe().texts

    @property
    def full(self) -> int:
        """The cost of a full batch there."""
        return FULL[self._device.torch_device.type]

    @property
    def name(self) -> str:
        """Where it runs."""
        on = self._device.torch_device
        return torch.cuda.get_device_name(on) if on.type == "cuda" else f"{torch.get_num_threads()} cores"

    def speed(self, batches: Sequence[list[Prepared]]) -> float:
        """Items a second; the batches are on the device beforehand."""
        collated = [self._model.collate([item.array for item in batch]) for batch in batches]
        staged = [{key: each.to(self._device.torch_device) for key, each in batch.items()} for batch in collated]
        with torch.inference_mode():
            started = time.perf_counter()
            for batch in staged:
                self._model.forward(batch)
            if self._device.torch_device.type == "cuda":
                torch.cuda.synchronize()
        return sum(map(len, batches)) / (time.perf_counter() - started)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--words", type=int, default=200, help="of the longest text")
    parser.add_argument("--windows", type=int, nargs="+", default=[64, 256, 1024], help="how many texts wait")
    parser.add_argument("--runs", type=int, default=3)
    minilm.add_option(parser)
    options = parser.parse_args()
    bare = Bare(options.text_model)
    prepared = bare.prepared(texts(options.texts, 1, options.words))
    limits = Limits(bare.full, options.texts)
    ways = {"in the order of arrival": in_order(prepared, limits)}
    ways |= {f"packed, {window} waiting": packed(prepared, limits, window) for window in options.windows}
    assert all(sum(map(len, batches)) == len(prepared) for batches in ways.values())
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    bare.speed(ways["in the order of arrival"][:3])
    for _ in range(options.runs):
        for way, batches in ways.items():
            speeds[way].append(bare.speed(batches))
    rows = [row(way, batches, speeds[way]) for way, batches in ways.items()]
    plain, *ours = (statistics.median(each) for each in speeds.values())
    last = list(ways)[-1]
    summary: dict[str, Any] = {
        f"items/s, {last} / in the order of arrival": ours[-1] / plain,
        f"padding, {last} (goal: below {GOAL})": waste(ways[last]),
        "load average at the end": os.getloadavg()[0],
    }
    title = f"{options.texts} texts of 1 to {options.words} words, MiniLM on {bare.name}, median of {options.runs}"
    show(title, rows, summary, options.json)


def row(way: str, batches: Sequence[list[Prepared]], speeds: Sequence[float]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "batches": way,
        "number": len(batches),
        "texts a batch": sum(map(len, batches)) / len(batches),
        "padding": f"{waste(batches):.1%}",
        "items/s": statistics.median(speeds),
        "min": min(speeds),
        "max": max(speeds),
    }


if __name__ == "__main__":
    main()
