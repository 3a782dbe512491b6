from __future__ import annotations

from legit_embedding.pipeline.parking import Parking
from tests.waiting import wait_for


def test_what_is_parked_is_released_in_order_when_its_time_has_come() -> None:
    released: list[int] = []
    parking = Parking(0.05)
    for number in range(3):
        parking.put(lambda number=number: released.append(number))
    assert len(parking) == 3
    assert released == []
    wait_for(lambda: len(released) == 3, 10, "the releases")
    assert released == [0, 1, 2]
    parking.put(lambda: released.append(3))
    wait_for(lambda: len(released) == 4, 10, "a later release")


def test_an_open_parking_holds_nothing() -> None:
    released: list[str] = []

    def fail() -> None:
        raise RuntimeError("a source's fault")

    parking = Parking(3600)
    parking.put(fail)
    parking.put(lambda: released.append("waiting"))
    parking.open()
    parking.put(lambda: released.append("late"))
    assert released == ["waiting", "late"]
    assert not len(parking)
