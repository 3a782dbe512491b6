"""Every producer decides alike, and a larger share only adds tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.migration.cutover.share import Subject, place

IDS = [f"task-{number}" for number in range(20_000)]


def test_places_are_what_other_languages_compute():
    # PHP: hexdec(substr(hash('sha256', 'cutover:task-1'), 0, 13)) / 16 ** 13 * 100
    assert round(place("task-1"), 9) == round(int("5b6ec5472c205", 16) / 16**13 * 100, 9)
    assert place("task-1") == place("task-1")
    assert place("task-1") != place("task-1", "shadow")


@given(st.text())
def test_every_task_has_a_place(task_id):
    assert 0 <= place(task_id) < 100
    assert Subject(task_id).within(100)
    assert not Subject(task_id).within(0)


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_share_only_adds(task_id, one, other):
    smaller, larger = sorted((one, other))
    assert Subject(task_id).within(larger) or not Subject(task_id).within(smaller)


def test_a_share_is_that_share_of_the_tasks():
    for share in (1, 5, 25, 50, 90):
        taken = sum(Subject(task_id).within(share) for task_id in IDS)
        assert abs(taken / len(IDS) * 100 - share) < 1


def test_the_two_purposes_are_independent():
    moved = [task_id for task_id in IDS if Subject(task_id).within(50)]
    copied = sum(Subject(task_id).within(20, "shadow") for task_id in moved)
    assert abs(copied / len(moved) * 100 - 20) < 2


def test_what_routing_reads_from_a_task():
    assert Subject.of({"task_id": "t", "app": "shop", "model": "m", "text": "x"}) == Subject("t", "shop", "m")
    assert Subject.of([{"task_id": "first"}, {"task_id": "second"}]).task_id == "first"
    assert Subject.of({"task_id": "t", "app": 7}) == Subject("t")


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        max_leaves=5,
    )
)
def test_what_is_no_task_has_a_place_too(argument):
    subject = Subject.of(argument)
    assert subject.within(100)
    assert subject == Subject.of(argument)
