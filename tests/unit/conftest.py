"""What several of the folders here share."""

from __future__ import annotations

import pytest

from tests.unit.fake_nvml import FakeNvml


@pytest.fixture
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A driver without GPUs, to which a test adds some."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return FakeNvml(monkeypatch)
