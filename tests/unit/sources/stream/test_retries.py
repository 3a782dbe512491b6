from __future__ import annotations

from collections import Counter

import pytest

from legit_embedding.sources.stream.retries import Retries


def recovered(**tries: int) -> Retries:
    found = Retries(max_deliveries=5)
    found.add(tries)
    return found


def test_the_fewer_tries_are_left_the_smaller_the_company() -> None:
    found = Retries(max_deliveries=5)
    for tries in range(6):
        found.add({f"{tries}-{number}": tries for number in range(100)})
    assert {entry[0] for entry in found.dead()} == {"5"}
    assert Counter(entry[0] for entry in found.harmless(1000)) == {"0": 100, "1": 100}
    companies = []
    while company := found.suspects():
        companies.append((set(company.values()), len(company)))
        found.drop(company)
    assert companies == [({2}, 64), ({2}, 36), *[({3}, 8)] * 12, ({3}, 4), *[({4}, 1)] * 100]


def test_no_more_than_there_is_room_for() -> None:
    assert list(recovered(a=1, b=1, c=1).harmless(2)) == ["a", "b"]
    assert recovered(a=1).harmless(0) == {}


def test_dropped_entries_are_forgotten() -> None:
    found = recovered(a=1, b=4)
    found.drop(["a", "unknown"])
    assert list(found) == ["b"]
    assert "a" not in found
    assert len(found) == 1


@pytest.mark.parametrize("max_deliveries", [1, 2, 3, 5])
def test_only_the_culprit_runs_out_of_tries(max_deliveries: int) -> None:
    """A worker that reads 300 entries at once and dies of one of them, over and over."""
    tries = {f"entry-{number}": 1 for number in range(300)}  # all were read together, and the worker died
    dead: list[str] = []
    while tries:
        found = Retries(max_deliveries)
        found.add(tries)
        for entry in found.dead():
            dead.append(entry)
            del tries[entry]
        company = found.harmless(1000) or found.suspects()
        for entry in company:
            tries[entry] += 1
        if "entry-150" not in company:
            for entry in company:
                del tries[entry]
        if max_deliveries == 1:
            break
    assert (dead == ["entry-150"]) == (max_deliveries > 1)
