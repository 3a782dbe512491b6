"""The spread of the distances as a picture."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from legit_embedding.migration.comparison.distances import NEAREST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from legit_embedding.migration.comparison.distances import Distances

WIDTH, HEIGHT = 1200, 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 40, 90, 90
_INK, _GREY, _PALE, _BAR, _LIMIT = "#1f2933", "#7b8794", "#e4e7eb", "#2f6db5", "#c0392b"
_DECADES = (-9, 1)
_BARS_A_DECADE = 10


def draw(distances: Distances, title: str, min_cosine: float, path: Path) -> None:
    """Write a PNG: how many pairs at which distance ``1 - cosine``; the distance on a logarithmic axis."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    chart = _Chart(ImageDraw.Draw(image), distances.decades())
    chart.axes(title, f"{distances.count:,} pairs, smallest cosine {distances.least:.6f}")
    chart.bars()
    chart.limit(1 - min_cosine, f"limit: cosine {min_cosine:g}")
    image.save(path, "PNG")


class _Chart:
    def __init__(self, pen: ImageDraw.ImageDraw, bins: Sequence[tuple[float, int]]) -> None:
        self._pen = pen
        self._bars: dict[int, int] = {}
        for edge, count in bins:
            bar = floor((log10(edge) - 1e-9) * _BARS_A_DECADE)
            self._bars[bar] = self._bars.get(bar, 0) + count
        self._most = max(self._bars.values(), default=1)

    def axes(self, title: str, subtitle: str) -> None:
        self._pen.text((_LEFT, 22), title, _INK, _font(24))
        self._pen.text((_LEFT, 56), subtitle, _GREY, _font(17))
        for step in range(5):
            count = round(self._most * step / 4)
            y = self._y(count)
            self._pen.line((_LEFT, y, WIDTH - _RIGHT, y), _PALE if step else _INK)
            self._pen.text((_LEFT - 12, y), f"{count:,}", _GREY, _font(15), anchor="rm")
        for decade in range(_DECADES[0], _DECADES[1]):
            label = f"to 1e{decade}" if 10.0**decade <= NEAREST else f"1e{decade}"
            self._pen.text((self._x(decade), HEIGHT - _BOTTOM + 12), label, _GREY, _font(15), anchor="mt")
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        self._pen.text((middle, HEIGHT - 28), "distance, 1 - cosine", _INK, _font(17), anchor="mm")

    def bars(self) -> None:
        for bar, count in self._bars.items():
            left, right = self._x(bar / _BARS_A_DECADE), self._x((bar + 1) / _BARS_A_DECADE)
            top = min(self._y(count), self._y(0) - 1)  # a single pair is seen too
            self._pen.rectangle((left + 1, top, right - 1, self._y(0)), _BAR)

    def limit(self, distance: float, label: str) -> None:
        x = self._x(log10(max(distance, NEAREST)))
        self._pen.line((x, _TOP, x, HEIGHT - _BOTTOM), _LIMIT, 2)
        anchor, shift = ("la", 8) if x < WIDTH * 0.7 else ("ra", -8)  # the text stays inside
        self._pen.text((x + shift, _TOP), label, _LIMIT, _font(15), anchor=anchor)

    def _x(self, decade: float) -> float:
        first, last = _DECADES
        # One bar's width on the left is for what is nearer than the first decade.
        share = (decade - first + 1 / _BARS_A_DECADE) / (last - first)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def _y(self, count: int) -> float:
        return HEIGHT - _BOTTOM - count / self._most * (HEIGHT - _TOP - _BOTTOM - 20)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
