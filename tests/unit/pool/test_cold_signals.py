"""When Celery's handlers for a shutdown are run."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from legit_embedding.pool import cold_signals
from legit_embedding.pool.cold_signals import ColdSignals
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def hub() -> Iterator[Hub]:
    before, hub = get_event_loop(), Hub()
    set_event_loop(hub)
    yield hub
    set_event_loop(before)
    hub.close()


@pytest.fixture
def no_hub() -> Iterator[None]:
    before = get_event_loop()
    set_event_loop(None)
    yield
    set_event_loop(before)


def handler(how: str, do: Callable[[], object]) -> Callable[..., None]:
    """A handler of the name that Celery gives its own."""

    def handle(*_: object) -> None:
        do()

    handle.__name__ = f"worker_{how}"
    return handle


@pytest.fixture
def calls() -> list[str]:
    """Says "cold" when SIGQUIT is handled."""
    calls: list[str] = []
    signal.signal(signal.SIGQUIT, handler("Cold", lambda: calls.append("cold")))
    return calls


def turn(hub: Hub, until: Callable[[], object]) -> None:
    """Run the event loop until this is so."""
    loop = hub.create_loop()
    wait_for(lambda: next(loop) or until(), 10, "the event loop to come by")


def test_a_cold_one_waits_for_the_event_loop(hub: Hub, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_signals, "PATIENCE_S", 60)
    ColdSignals().watch()
    signal.raise_signal(signal.SIGQUIT)
    assert calls == []
    turn(hub, lambda: calls)
    assert calls == ["cold"]


def test_it_waits_for_whoever_turns_the_loop_by_hand(hub: Hub, calls: list[str]) -> None:
    signals = ColdSignals()
    signals.watch()
    signal.raise_signal(signal.SIGQUIT)
    signals.handle()
    signals.handle()
    assert calls == ["cold"]


@pytest.mark.usefixtures("no_hub")
def test_without_an_event_loop_it_runs_where_the_main_thread_is(calls: list[str]) -> None:
    ColdSignals().watch()
    signal.raise_signal(signal.SIGQUIT)
    wait_for(lambda: calls, 10, "the handler")
    assert calls == ["cold"]


def test_a_loop_that_does_not_turn_is_not_waited_for(
    hub: Hub, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_signals, "PATIENCE_S", 0.01)
    ColdSignals().watch()
    signal.raise_signal(signal.SIGQUIT)
    wait_for(lambda: calls, 10, "the handler")
    assert calls == ["cold"]


def test_a_warm_one_runs_at_once_and_what_it_installs_waits(hub: Hub) -> None:
    calls: list[str] = []

    def warm() -> None:
        calls.append("warm")
        signal.signal(signal.SIGINT, handler("Cold", lambda: calls.append("cold")))

    signal.signal(signal.SIGINT, handler("Warm", warm))
    signals = ColdSignals()
    signals.watch()
    signal.raise_signal(signal.SIGINT)
    assert calls == ["warm"]
    signal.raise_signal(signal.SIGINT)
    assert calls == ["warm"]
    signals.handle()
    assert calls == ["warm", "cold"]


def test_one_that_comes_while_another_is_handled_runs_at_once(hub: Hub) -> None:
    calls: list[str] = []

    def first() -> None:
        signal.signal(signal.SIGQUIT, handler("Cold", lambda: calls.append("second")))
        signals._replace()  # as it is between the handlers of two signals
        signal.raise_signal(signal.SIGQUIT)
        calls.append("first")

    signal.signal(signal.SIGQUIT, handler("Cold", first))
    signals = ColdSignals()
    signals.watch()
    signal.raise_signal(signal.SIGQUIT)
    signals.handle()
    assert calls == ["second", "first"]


def test_the_handlers_of_others_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    ColdSignals().watch()
    assert [signal.getsignal(number) for number in SIGNALS] == before
