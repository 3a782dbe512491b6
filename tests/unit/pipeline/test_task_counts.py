from __future__ import annotations

from legit_embedding.errors import TaskError
from legit_embedding.pipeline.task_counts import UNKNOWN, TaskCounts
from legit_embedding.wire.result import Embedded, Origin, Result
from legit_embedding.wire.task import Address

GOOD = Embedded("text", "m", 4, "base64_fp32", "AAAA")


def result(outcome: Embedded | TaskError) -> Result:
    return Result(Address("t"), Origin("local", "t"), outcome)


def test_answers_are_counted_by_model_and_outcome() -> None:
    counts = TaskCounts(["m"])
    assert counts.outcomes == {("m", "ok"): 0}, "a rate is only seen from a zero on"
    counts.answered("m", result(GOOD))
    counts.answered("m", result(Embedded("text", "m", 4, "base64_fp32", "AAAA", truncated=True)))
    counts.answered(UNKNOWN, result(TaskError("unknown_model", "no")))
    assert counts.outcomes == {("m", "ok"): 2, ("", "unknown_model"): 1}
    assert counts.truncated == {"m": 1}


def test_items_prepared_together_share_the_time() -> None:
    counts = TaskCounts(["m"])
    counts.prepared("m", 0.4, 4)
    counts.prepared("m", 0.0, 0)
    seen = counts.prep_seconds["m"].snapshot()
    assert (seen.count, round(seen.sum, 6)) == (4, 0.4)
    assert dict(seen.buckets)[0.05] == 0
    assert dict(seen.buckets)[0.1] == 4


def test_retries_of_prep_are_counted() -> None:
    counts = TaskCounts(["m"])
    counts.prep_retried("m")
    assert counts.prep_retries == {"m": 1}
