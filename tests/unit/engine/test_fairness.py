"""Shares of device time, on devices that only pretend to take time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.engine.backends import LIMIT_S, Item, Model
from tests.unit.engine.devices import MeteredDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.engine import Engine

SECONDS = {"images": 0.2, "texts": 0.005}
"""What a batch of 8 takes."""
FIRST_TEXT = 100_000


def pretended_seconds(numbers: list[int]) -> float:
    return SECONDS["texts" if numbers[0] >= FIRST_TEXT else "images"]


def first_takes_five_seconds(numbers: list[int]) -> float:
    return 5.0 if numbers[0] == 1 else pretended_seconds(numbers)


def run(
    make_engine: Callable[..., Engine],
    weights: dict[str, float],
    batches: dict[str, int],
    seconds: Callable[[list[int]], float] = pretended_seconds,
) -> list[str]:
    """Let two models work off what waits for them; whose batches ran, in order."""
    order: list[str] = []
    images, texts = (Model(kind, max_batch=8, weight=weights[f"{kind}s"]) for kind in ("image", "text"))
    images.on_forward = lambda numbers: order.append("images")
    texts.on_forward = lambda numbers: order.append("texts")
    engine = make_engine(images, texts, device=MeteredDevice(seconds))
    for number in range(1, 8 * batches["images"] + 1):
        engine.submit(Item(number))
    for number in range(8 * batches["texts"]):
        engine.submit(Item(FIRST_TEXT + number, "texts", length=10))
    engine.start()
    assert engine.drain(LIMIT_S)
    return order


def used_while_both_waited(order: list[str]) -> dict[str, float]:
    end = min(len(order) - 1 - order[::-1].index(name) for name in SECONDS)
    return {name: order[: end + 1].count(name) * seconds for name, seconds in SECONDS.items()}


@pytest.mark.parametrize("weights", [{"images": 1.0, "texts": 1.0}, {"images": 1.0, "texts": 3.0}])
def test_device_time_is_shared_by_weight_whatever_a_batch_takes(make_engine, weights):
    order = run(make_engine, weights, {"images": 30, "texts": 1200})
    used = used_while_both_waited(order)
    share = used["texts"] / sum(used.values())
    assert share == pytest.approx(weights["texts"] / sum(weights.values()), rel=0.1)


def test_what_counts_is_what_a_batch_took_not_what_was_expected(make_engine):
    order = run(make_engine, {"images": 1.0, "texts": 1.0}, {"images": 100, "texts": 2000}, first_takes_five_seconds)
    images, texts = used_while_both_waited(order).values()
    images += 5.0 - SECONDS["images"]
    assert texts / (images + texts) == pytest.approx(0.5, rel=0.1)


def test_a_text_waits_for_two_image_batches_at_most(make_engine):
    """One that computes, and one that is staged behind it."""
    images = Model(max_batch=8)
    texts = Model("text")
    order: list[str] = []
    texts.on_forward = lambda numbers: order.append("texts")

    def send_a_text(numbers: list[int]) -> None:
        order.append("images")
        if order.count("images") == 10:
            engine.submit(Item(1, "texts", length=3))

    images.on_forward = send_a_text
    engine = make_engine(images, texts)
    for number in range(1, 8 * 30 + 1):
        engine.submit(Item(number))
    engine.start()
    assert engine.drain(LIMIT_S)
    assert order.index("texts") - 10 <= 2
