from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from tests.unit.engine.backends import Model
from tests.unit.engine.devices import MeteredDevice

if TYPE_CHECKING:
    import pytest


def pretend() -> MeteredDevice:
    return MeteredDevice(lambda numbers: 0.001 * len(numbers))


def test_a_model_that_reads_from_the_device_is_named(start_engine, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    model = Model()
    model.on_vectors = lambda numbers, vectors: vectors[torch.ones(len(numbers)) > 0]
    start_engine(model, Model("text"), device=pretend())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Model images reads from the device in each forward pass (index): the device waits for the host meanwhile"
    ]
