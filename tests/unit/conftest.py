"""What several of the folders here share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from legit_embedding.prep.images.slow_decoders import DECODERS
from tests.unit.fake_nvml import FakeNvml

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A driver without GPUs, to which a test adds some."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return FakeNvml(monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def _ended_decoders() -> Iterator[None]:
    """Leave no process behind that has decoded an image."""
    yield
    DECODERS.close()
