"""Engines that are closed at the end of their test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.config import EngineConfig
from legit_embedding.engine.engine import Engine
from tests.unit.engine.devices import SteadyDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.engine.device.cpu import CpuDevice
    from tests.unit.engine.backends import Model


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Make an engine of some models, on a steady device unless a test names another.

    Settings of `EngineConfig` and of `Engine` come by name.
    """
    made: list[Engine] = []

    def make(*models: Model, device: CpuDevice | None = None, **options: Any) -> Engine:
        config = EngineConfig(**{key: options.pop(key) for key in tuple(options) if key in EngineConfig.model_fields})
        if device is not None or "on" not in options:
            options.setdefault("open_device", lambda name: device or SteadyDevice())
        engine = Engine({model.name: model for model in models}, config, options.pop("on", "cpu"), **options)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close(timeout=1.0)


@pytest.fixture
def start_engine(make_engine: Callable[..., Engine]) -> Callable[..., Engine]:
    """Make an engine and start it."""

    def start(*models: Model, **options: Any) -> Engine:
        engine = make_engine(*models, **options)
        engine.start()
        return engine

    return start
