from __future__ import annotations

import pytest

from legit_embedding.config import StreamConfig
from legit_embedding.errors import TaskError
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.routing import Router
from legit_embedding.wire.result import Embedded, Origin, Result
from legit_embedding.wire.task import Address
from tests.told import Told

GOOD = Embedded("text", "minilm", 2, "base64_fp32", "A" * 4096)


def answer(address: Address, outcome: Embedded | TaskError = GOOD) -> Answer:
    return Answer.of(Told(), Result(address, Origin("local", ""), outcome))


def test_size_counts_the_vector_and_the_metadata() -> None:
    assert answer(Address("1")).size > 4096
    assert answer(Address("1", metadata="y" * 10_000)).size > 14_000
    assert answer(Address("1"), TaskError("expired", "late")).size < 4096


def test_a_refused_route_replaces_the_outcome() -> None:
    refused = answer(Address("1", reply_to="elsewhere"))
    assert not refused.route(Router(StreamConfig()))
    assert refused.stream == "embedding_results"
    assert refused.fields("w")["error"] == "reply_to_refused"


def test_a_stream_that_takes_nothing_costs_an_answer_its_stream() -> None:
    refused = answer(Address("1", reply_to="embedding_results:x", app="shop", metadata="{}"))
    refused.route(Router(StreamConfig()))
    assert refused.has_another_chance("embedding_results", "WRONGTYPE ...")
    fields = refused.fields("w")
    assert (refused.stream, fields["error"], fields["metadata"]) == ("embedding_results", "reply_to_refused", "{}")
    assert not refused.has_another_chance("embedding_results", "WRONGTYPE ...")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("Protocol error: invalid bulk length", "too_large"), ("TypeError: no text", "model_failed")],
)
def test_an_answer_that_cannot_be_sent_is_replaced_by_the_reason(reason: str, code: str) -> None:
    refused = answer(Address("1", reply_to="embedding_results:x", metadata="{}"))
    refused.route(Router(StreamConfig()))
    assert refused.has_another_chance("embedding_results", reason)
    fields = refused.fields("w")
    assert (refused.stream, fields["task_id"], fields["error"]) == ("embedding_results:x", "1", code)
    assert reason in fields["detail"]
    assert "metadata" not in fields
    assert not refused.has_another_chance("embedding_results", reason)
