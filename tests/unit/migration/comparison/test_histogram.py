"""The picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from legit_embedding.migration.comparison.distances import Distances
from legit_embedding.migration.comparison.histogram import HEIGHT, WIDTH, draw

BAR = (0x2F, 0x6D, 0xB5)


def columns_with_bars(path):
    with Image.open(path) as image:
        assert image.size == (WIDTH, HEIGHT)
        pixels = np.asarray(image)
    return np.flatnonzero((pixels == BAR).all(axis=2).any(axis=0))


def test_bars_stand_where_the_distances_are(tmp_path):
    near, far = Distances(), Distances()
    near.add(1 - np.full(100, 1e-7))
    far.add(1 - np.full(100, 1e-2))
    for spread, name in ((near, "near.png"), (far, "far.png")):
        draw(spread, "left and right", 0.999, tmp_path / name)
    assert columns_with_bars(tmp_path / "near.png").max() < columns_with_bars(tmp_path / "far.png").min()


def test_the_ends_stay_inside(tmp_path):
    spread = Distances()
    spread.add(np.array([1.0, -1.0, 0.0]))
    draw(spread, "x", 1.0, tmp_path / "ends.png")
    columns = columns_with_bars(tmp_path / "ends.png")
    assert 100 < columns.min() < columns.max() < WIDTH - 20


def test_nothing_can_be_drawn(tmp_path):
    draw(Distances(), "x", 0.999, tmp_path / "nothing.png")
    assert columns_with_bars(tmp_path / "nothing.png").size == 0
