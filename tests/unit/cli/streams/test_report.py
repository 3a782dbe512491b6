from __future__ import annotations

from legit_embedding.cli.streams.report import Meter
from legit_embedding.telemetry.glance import Consumer, Glance, Group, Look

START = 1_700_000_000.0


def entry(seconds: float) -> str:
    return f"{int((START + seconds) * 1000)}-0"


def tasks(at: float, *, added: int | None, lag: int | None, pending: int = 0) -> Look:
    group = Group("g", pending, lag, entry(-5), (Consumer("w", pending, 0.1),))
    return Look("tasks", START + at, (lag or 0) + pending, added, entry(-5), entry(0), group)


def glance(task_look: Look, *, results: int = 0, dead: int = 0) -> Glance:
    result = Look("results", task_look.at, results, results, entry(-9), entry(-1))
    return Glance(task_look, Look("dead", task_look.at, dead, dead, None, None), (result,))


def test_one_look_has_no_rates() -> None:
    report = Meter("redis://s").report(glance(tasks(0, added=100, lag=40, pending=10)))
    assert report.measured_s == 0
    assert (report.tasks.lag, report.tasks.pending, report.tasks.oldest_age_s) == (40, 10, 5)
    assert (report.tasks.arrivals_per_s, report.tasks.finished_per_s, report.tasks.empty_in_s) == (None, None, None)


def test_rates_and_time_to_empty_between_two_looks() -> None:
    meter = Meter("redis://s")
    meter.report(glance(tasks(0, added=100, lag=80, pending=20), results=0))
    # In ten seconds 50 came and 70 of the 150 were finished: 80 are left, and 2 fewer each second.
    report = meter.report(glance(tasks(10, added=150, lag=70, pending=10), results=70, dead=5))
    assert report.measured_s == 10
    assert report.tasks.arrivals_per_s == 5
    assert report.tasks.finished_per_s == 7
    assert report.tasks.empty_in_s == 40
    assert report.results[0].per_s == 7
    assert report.results[0].newest_age_s == 11
    assert report.dead_letter.per_s == 0.5


def test_a_stream_that_grows_is_never_empty() -> None:
    meter = Meter("redis://s")
    meter.report(glance(tasks(0, added=100, lag=10)))
    report = meter.report(glance(tasks(1, added=200, lag=60)))
    assert report.tasks.finished_per_s == 50
    assert report.tasks.empty_in_s is None


def test_an_empty_stream_is_empty_now() -> None:
    assert Meter("redis://s").report(glance(tasks(0, added=100, lag=0))).tasks.empty_in_s == 0


def test_a_stream_made_anew_has_no_rate_for_a_moment() -> None:
    meter = Meter("redis://s")
    meter.report(glance(tasks(0, added=1000, lag=0)))
    assert meter.report(glance(tasks(1, added=3, lag=3))).tasks.arrivals_per_s is None


def test_a_server_that_does_not_count_has_no_rates() -> None:
    meter = Meter("redis://s")
    meter.report(glance(tasks(0, added=None, lag=None)))
    report = meter.report(glance(tasks(1, added=None, lag=None)))
    assert (report.tasks.arrivals_per_s, report.tasks.finished_per_s, report.tasks.empty_in_s) == (None, None, None)


def test_rates_are_those_of_the_last_half_minute() -> None:
    meter = Meter("redis://s")
    for second in range(101):
        # 10 a second at first, then 100 a second from the 60th on.
        report = meter.report(glance(tasks(second, added=10 * second + 90 * max(0, second - 60), lag=0)))
    assert report.measured_s == 30
    assert report.tasks.arrivals_per_s == 100


def test_looks_further_apart_than_the_window_still_have_rates() -> None:
    meter = Meter("redis://s")
    for minute in range(4):
        report = meter.report(glance(tasks(60 * minute, added=60 * minute, lag=0)))
    assert report.tasks.arrivals_per_s == 1
