from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from legit_embedding.engine.sizing.weights import weights_bytes


def test_parameters_and_buffers_count_once() -> None:
    tower = torch.nn.Sequential(torch.nn.Linear(10, 10, bias=False), torch.nn.BatchNorm1d(10))
    head = torch.nn.Linear(10, 10, bias=False)
    head.weight = torch.nn.Parameter(tower[0].weight.detach())  # another tensor over the same storage
    backend: Any = SimpleNamespace(name="a", tower=tower, head=head)
    assert weights_bytes(backend) == 4 * (100 + 4 * 10) + 8


def test_a_backend_without_modules_is_unknown() -> None:
    backend: Any = SimpleNamespace(name="a", vectors=torch.zeros(10))
    assert weights_bytes(backend) is None
