from __future__ import annotations

from typing import Any

from legit_embedding.config import StreamConfig
from legit_embedding.errors import TaskError
from legit_embedding.messages import Address, Embedded, Origin, Result
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.routing import Router

GOOD = Embedded("text", "minilm", 2, "base64_fp32", "A" * 4096)


def answer(address: Address, outcome: Embedded | TaskError = GOOD) -> Answer:
    return Answer.of(Result(address, Origin("local", ""), outcome), lambda _: None)


def test_size_counts_the_vector_and_the_metadata() -> None:
    assert answer(Address("1")).size > 4096
    assert answer(Address("1", metadata={"x": "y" * 10_000})).size > 14_000
    assert answer(Address("1"), TaskError("expired", "late")).size < 4096


def test_a_refused_route_replaces_the_outcome() -> None:
    refused = answer(Address("1", reply_to="elsewhere"))
    assert not refused.route(Router(StreamConfig()))
    assert refused.stream == "embedding_results"
    assert refused.fields("w")["error"] == "reply_to_refused"


def test_what_cannot_be_written_as_json_becomes_an_error_that_can() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    fields = answer(Address("1", app="shop", metadata=loop)).fields("w")
    assert fields["task_id"] == "1"
    assert fields["app"] == "shop"
    assert fields["error"] == "invalid_task"
    assert fields["detail"].startswith("metadata:")
    assert "metadata" not in fields
