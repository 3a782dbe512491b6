"""Figures about requests: how many, how long, how many now, and why some were refused."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING

from legit_embedding.engine.histogram import SECONDS, Histogram
from legit_embedding.sources.http.problems import CAUSES, REFUSED, unavailable
from legit_embedding.telemetry.families import ALONE, Families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SURPLUS = "is_surplus"
"""Key in the ASGI state of a connection that is one too many."""
NO_ROUTE = "other"
"""The label of a path that no route has: labels hold nothing that a client can make up."""


class Traffic(Families):
    """The counts of requests. They are written on the event loop's thread, and read on any.

    Args:
        worker: the worker's identity.
        items: returns the number of items that requests hold.
        closed: returns the number of connections closed on their clients, by cause.
    """

    def __init__(self, worker: str, items: Callable[[], int], closed: Callable[[], Mapping[str, int]]) -> None:
        super().__init__(worker)
        self._items = items
        self._closed = closed
        self._answered: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self._refused: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        self._in_flight = 0

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        answered, seconds, refused = self._answered.copy(), self._seconds.copy(), self._refused.copy()
        yield self._counter("legit_http_requests", "Requests answered over HTTP.", answered, "route", "code")
        spent = {route: histogram.snapshot() for route, histogram in seconds.items()}
        help_ = "From a request's head to the beginning of its answer."
        yield self._histogram("legit_http_request_seconds", help_, spent, "route")
        help_ = "Requests that are not answered yet."
        yield self._gauge("legit_http_in_flight_requests", help_, {ALONE: self._in_flight})
        help_ = "Items that requests hold; http.max_in_flight bounds them."
        yield self._gauge("legit_http_in_flight_items", help_, {ALONE: self._items()})
        yield self._counter("legit_http_refused", "Requests answered with 503.", refused, "cause")
        help_ = "Connections closed because their clients were too slow."
        yield self._counter("legit_http_closed", help_, self._closed(), "cause")

    def begin(self) -> None:
        """Count a request in."""
        self._in_flight += 1

    def end(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request out, with the status that it is answered with."""
        self._in_flight -= 1
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self._answered[route, str(status)] += 1
        self._seconds[route].observe(seconds)
        if (cause := scope.get("state", {}).get(REFUSED)) is not None:
            self._refused[cause] += 1

    def abandon(self) -> None:
        """Count out a request that is answered with nothing."""
        self._in_flight -= 1


class Counted:
    """The application, with its requests counted; those of surplus connections are refused here.

    Args:
        app: the application.
        traffic: the counts.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Its answer counts when it begins: a stream of events has no end."""
        began, is_begun = time.perf_counter(), False

        async def send_counted(message: Message) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                self._traffic.end(scope, message["status"], time.perf_counter() - began)
            await send(message)

        self._traffic.begin()
        try:
            app = _refuse if scope.get("state", {}).get(SURPLUS) else self._app
            await app(scope, receive, send_counted)
        except Exception:
            if not is_begun:
                is_begun = True
                self._traffic.end(scope, HTTPStatus.INTERNAL_SERVER_ERROR, time.perf_counter() - began)
            raise
        finally:
            if not is_begun:
                self._traffic.abandon()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    problem = unavailable("overloaded", "too many connections are open: http.max_connections", "connections")
    problem.headers["Connection"] = "close"
    scope["state"][REFUSED] = problem.cause
    await problem.response(scope["path"])(scope, receive, send)
