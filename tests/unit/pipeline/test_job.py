"""The vector of a job, on its way into the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legit_embedding.encoding import decode_embedding
from legit_embedding.errors import TaskError
from legit_embedding.models.config import ModelConfig
from legit_embedding.models.registry import Registry
from legit_embedding.wire.task import TaskObject
from tests.unit.pipeline.test_windows import Taken


def answered(vector: list[float], asked: dict[str, Any], **settings: Any) -> Any:
    """The answer to a task whose model gave this vector."""
    fields = {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "options": {"dim": 4}} | settings
    taken = Taken(Registry({"null": ModelConfig.model_validate(fields)}))
    job = taken.job("a text")
    job.take(TaskObject(task_id="t", text="a text", **asked))
    job.serve(job.tower)
    job.done(np.array(vector, np.float32), 0.1, 0.1)
    (outcome,) = taken.ended
    return outcome


@pytest.mark.parametrize(
    ("model", "task", "used"),
    [
        ({}, {}, "base64_fp32"),
        ({"encoding": "base64_int8"}, {}, "base64_int8"),
        ({"encoding": "base64_int8"}, {"encoding": "base64_binary"}, "base64_binary"),
    ],
)
def test_the_task_decides_on_the_encoding_before_the_model(
    model: dict[str, Any], task: dict[str, Any], used: str
) -> None:
    outcome = answered([0.5, -0.5, 0.5, -0.5], task, **model)
    assert outcome.encoding == used
    found = decode_embedding(outcome.embedding, used, dim=outcome.dim, scale=outcome.scale)
    assert np.sign(found).tolist() == [1, -1, 1, -1]


def test_a_vector_that_its_encoding_cannot_hold_is_an_error() -> None:
    outcome = answered([7e4, 0, 0, 0], {"encoding": "base64_fp16"}, normalize=False)
    assert isinstance(outcome, TaskError)
    assert outcome.code == "non_finite"
    assert "base64_fp16" in outcome.detail
