"""The processor of remote models, which works beside the device."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from typing import TYPE_CHECKING, cast

import httpx

from legit_embedding.engine.front import WAITING_BYTES, Front
from legit_embedding.engine.in_flight import InFlightBatches
from legit_embedding.engine.model_queue import ModelQueue
from legit_embedding.engine.outcomes import Outcomes
from legit_embedding.errors import ConfigError, in_one_line
from legit_embedding.redis_io.tasks import run_until
from legit_embedding.remote.exchange import CONNECT_S, Exchange
from legit_embedding.remote.lane import Lane
from legit_embedding.remote.model import MAX_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legit_embedding.config import RemoteConfig
    from legit_embedding.engine.stats import ModelStats
    from legit_embedding.models.backend import Backend
    from legit_embedding.remote.model import RemoteModel

logger = logging.getLogger(__name__)

_JOIN_S = 1.0


class RemoteProcessor(Front):
    """Embeds deliveries of remote models, on one thread with one client.

    Args:
        models: the remote models by queue.
        config: how they are reached.
        max_items: the most items that may wait for one model.
        on_room: called when a model that was full has room again; must be quick.
        on_fatal: called with the cause if the thread ends by itself; all unanswered items have been given back by then.

    Raises:
        ConfigError: the client cannot be made with these settings.
    """

    def __init__(
        self,
        models: Mapping[str, RemoteModel],
        config: RemoteConfig,
        max_items: int,
        *,
        on_room: Callable[[], None] | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__(Outcomes(), on_room)
        # It logs every request.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._in_flight = InFlightBatches(self._outcomes)
        most = sum(model.config.max_requests for model in models.values())
        self._client = _make_client(config, most)
        self._queues = {
            # It has all of a backend that a queue asks for.
            name: ModelQueue(name, cast("Backend", model), self._outcomes, WAITING_BYTES, max_items, self._room)
            for name, model in models.items()
        }
        self._lanes = {
            name: Lane(queue, Exchange(self._client, models[name]), self._outcomes, self._in_flight)
            for name, queue in self._queues.items()
        }
        self._on_fatal = on_fatal
        self._ready = threading.Event()
        self._grace_s = 0.0
        self.thread = threading.Thread(target=self._run, name="remote-models", daemon=True)

    _loop: asyncio.AbstractEventLoop
    _stopping: asyncio.Event

    def start(self) -> None:
        """Start the thread. The remotes need not be available: they are asked until they are."""
        self.thread.start()
        self._ready.wait()

    def front(self, model: str) -> Front | None:
        """Itself, for its models."""
        return self if model in self._queues else None

    def set_max_batch(self, model: str, max_batch: int | None) -> None:
        """Change a model's limit of items per request; None for the default."""
        super().set_max_batch(model, max_batch or MAX_BATCH)

    def full_batch(self, model: str) -> int:
        """The number of items in as many full requests as may be in flight."""
        lane = self._lanes[model]
        return lane.model.config.max_requests * (lane.queue.max_batch or MAX_BATCH)

    def stats(self) -> dict[str, ModelStats]:
        """Current counters by queue."""
        return {name: lane.stats() for name, lane in self._lanes.items()}

    def close(self, *, give_back: bool, timeout: float) -> None:
        """Stop within `timeout` seconds. Requests in flight are awaited, everything else is given back.

        Args:
            give_back: give back waiting items at once, instead of only those not settled within `timeout`.
            timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        if not give_back and self.thread.is_alive():
            self.drain(timeout)
        self._give_back_waiting()
        self._grace_s = max(0.0, deadline - time.monotonic())
        if self.thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self.thread.join(self._grace_s + _JOIN_S)
        self._in_flight.end()

    def _notice(self, model: str) -> None:
        lane = self._lanes[model]
        if lane.hungry:
            lane.hungry = False
            self._loop.call_soon_threadsafe(lane.notice)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            logger.critical("The thread of the remote models has ended", exc_info=True)
            self._give_back_waiting()
            if self._on_fatal is not None:
                self._on_fatal(error)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        lanes = self._lanes.values()
        async with self._client:
            tasks = [asyncio.create_task(lane.run()) for lane in lanes]
            self._ready.set()
            try:
                await run_until(self._stopping, tasks)
            finally:
                await asyncio.gather(*(lane.stop(self._grace_s) for lane in lanes))
                self._in_flight.end()


def _make_client(config: RemoteConfig, most: int) -> httpx.AsyncClient:
    proxy = config.proxy.get_secret_value() if config.proxy is not None else None
    try:
        own = config.ca_file is not None
        tls = ssl.create_default_context(cafile=config.ca_file) if own else httpx.create_ssl_context(trust_env=False)
        return httpx.AsyncClient(
            verify=tls,
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_S),  # the whole request has a deadline of its own
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
        )
    except OSError as error:
        message = f"remote.ca_file: {config.ca_file} cannot be used: {error.strerror or in_one_line(error)}"
        raise ConfigError(message) from None
    except (ValueError, httpx.InvalidURL):
        message = "remote.proxy: expected an address like http://user:password@host:port"
        raise ConfigError(message) from None
