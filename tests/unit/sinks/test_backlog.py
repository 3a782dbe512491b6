from __future__ import annotations

from legit_embedding.errors import TaskError
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.backlog import Backlog, Limits
from legit_embedding.wire.result import Origin, Result
from legit_embedding.wire.task import Address
from tests.told import Told


def answers(count: int, size: int = 10) -> list[Answer]:
    result = Result(Address("1"), Origin("local", ""), TaskError("expired", "late"))
    return [Answer(result, Told(), size) for _ in range(count)]


def filled(backlog: Backlog, items: list[Answer]) -> list[bool]:
    return [backlog.put(item) for item in items]


def test_only_the_first_of_a_burst_wakes_the_taker() -> None:
    backlog = Backlog(Limits(batch=2))
    assert filled(backlog, answers(1)) == [False], "the taker has not begun"
    assert len(backlog.take()) == 1
    assert backlog.take() == []
    assert filled(backlog, answers(3)) == [True, False, False]
    assert [len(backlog.take()), len(backlog.take())] == [2, 1]
    assert filled(backlog, answers(1)) == [False]
    assert len(backlog.take()) == 1
    assert backlog.take() == []
    assert filled(backlog, answers(2)) == [True, False]


def test_a_batch_is_cut_by_bytes_but_never_empty() -> None:
    backlog = Backlog(Limits(batch=10, batch_bytes=25))
    filled(backlog, [*answers(1, size=100), *answers(5, size=10)])
    assert [len(backlog.take()) for _ in range(4)] == [1, 2, 2, 1]


def test_what_is_taken_counts_until_it_is_released() -> None:
    backlog = Backlog(Limits(pending=2))
    filled(backlog, answers(2))
    batch = backlog.take()
    assert not backlog.has_room()
    assert (len(backlog), backlog.size) == (2, 20)
    assert backlog.release(batch)
    assert backlog.has_room()
    assert (len(backlog), backlog.size) == (0, 0)


def test_room_again_is_told_only_to_those_who_found_none() -> None:
    backlog = Backlog(Limits(pending=2, batch=1))
    filled(backlog, answers(3))
    first, second, third = backlog.take(), backlog.take(), backlog.take()
    assert not backlog.release(first)
    assert not backlog.has_room()
    assert backlog.release(second)
    assert not backlog.release(third)


def test_bytes_are_a_limit_too() -> None:
    backlog = Backlog(Limits(pending_bytes=25))
    filled(backlog, answers(2))
    assert backlog.has_room()
    filled(backlog, answers(1))
    assert not backlog.has_room()


def test_the_rest_is_everything_unreleased_in_order() -> None:
    backlog = Backlog(Limits(batch=2))
    items = answers(5)
    filled(backlog, items)
    backlog.release(backlog.take()[:1])
    backlog.close()
    assert backlog.put(answers(1)[0]) is False
    assert backlog.rest() == items[1:]
    assert (len(backlog), backlog.size) == (0, 0)
    assert backlog.wait_until_empty(0)
