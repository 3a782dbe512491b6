from __future__ import annotations

import pytest

from legit_embedding.config import StreamConfig
from legit_embedding.sinks.routing import Router
from legit_embedding.wire.task import Address

CONFIG = StreamConfig(routes={"shop": "embedding_results:shop"})


@pytest.mark.parametrize(
    ("address", "stream"),
    [
        (Address("1"), "embedding_results"),
        (Address("1", app="shop"), "embedding_results:shop"),
        (Address("1", app="unknown"), "embedding_results"),
        (Address("1", app=""), "embedding_results"),
        (Address("1", reply_to="embedding_results:mine", app="shop"), "embedding_results:mine"),
    ],
)
def test_reply_to_then_route_then_default(address: Address, stream: str) -> None:
    assert Router(CONFIG).route(address) == (stream, None)


@pytest.mark.parametrize("wanted", ["other", "embedding_result", "embedding_results\n", "embedding_results\ud800"])
def test_a_stream_outside_the_allow_list_is_refused_on_the_default(wanted: str) -> None:
    stream, error = Router(CONFIG).route(Address("1", reply_to=wanted, app="shop"))
    assert stream == "embedding_results"
    assert error is not None
    assert error.code == "reply_to_refused"
    assert ascii(wanted)[1:5] in error.detail
    assert "embedding_results*" in error.detail


@pytest.mark.parametrize("ours", ["embedding_tasks", "embedding_tasks:dead"])
def test_an_answer_never_goes_to_the_task_stream(ours: str) -> None:
    router = Router(StreamConfig(reply_to_allow=("*",)))
    stream, error = router.route(Address("1", reply_to=ours))
    assert stream == "embedding_results"
    assert error is not None
