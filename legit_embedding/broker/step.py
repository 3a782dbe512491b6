"""The worker's messages: fetched, settled, and kept across broken connections to Redis."""

from __future__ import annotations

import logging
import time
from collections import deque
from types import MethodType
from typing import TYPE_CHECKING, Any

import kombu
from celery import bootsteps
from celery.worker.consumer.tasks import Tasks
from celery.worker.state import maybe_shutdown
from kombu.transport import redis as redis_transport
from redis.exceptions import ReadOnlyError

from legit_embedding import process
from legit_embedding.broker.acks import run_ready_acknowledgements
from legit_embedding.broker.depths import QueueDepths
from legit_embedding.broker.fetch import MessageFetcher
from legit_embedding.broker.malformed import MalformedMessages
from legit_embedding.broker.ordinary import OrdinaryMessages
from legit_embedding.broker.settlement import Done, Settlement, servers_of
from legit_embedding.broker.shape import missing
from legit_embedding.dead_letter.messages import DeadMessages
from legit_embedding.redis_io.connection import Backoff, explain
from legit_embedding.redis_io.health import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.message import Message

log = logging.getLogger(__name__)

_PAUSE_STEP_S = 0.05


class BrokerStep(bootsteps.StartStopStep):
    """Fetches, settles and keeps the worker's messages where Redis is the broker.

    A message can be settled over any connection by its tag. kombu settles it only over the connection that delivered
    it, one message at a time, and Celery 5.7 ends the worker when that connection is closed. Here:

    - all messages settled in one turn of the event loop are settled in one round trip;
    - a message in progress when the connection breaks stays in progress, and is settled over the next connection;
    - one whose answer may be unknown to the server that the address has come to lead to is put back (`Settlement`);
    - a message that was waiting (for its ETA or its rate limit) is put back, because Celery forgets it.
    """

    requires = (Tasks,)

    def __init__(self, parent: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's consumer and its options
        super().__init__(parent, **kwargs)
        self._consumer = parent
        self._channel: redis_transport.Channel | None = None
        self._left: set[str] = set()
        self._done: deque[Done] = deque()
        self._settlement = Settlement(self._moved)
        self._is_settling_soon = False
        self._fits = not (lacking := missing())
        if lacking:
            log.warning(
                "kombu %s is not the one this was made for (it lacks %s): messages are taken and settled in its own "
                "way, one at a time, and one that is taken while the worker is killed can be lost",
                kombu.__version__,
                ", ".join(lacking),
            )
        self._call_soon_ack = parent.call_soon_ack
        parent.call_soon_ack = self._settle_soon
        self._taking = Outage("the broker")
        self._settling = Outage("settling messages at the broker")
        self._backoff = Backoff()
        self._refused = self._failures = 0
        settings = process.settings()
        consumes = settings.streams.consume
        self._malformed = MalformedMessages(
            parent, DeadMessages(settings.redis, settings.streams.dead_letter) if consumes else None
        )
        # The refusal may be temporary, so no error reply may end the worker.
        parent.app.conf.broker_channel_error_retry = True
        vars(parent).update(
            on_connection_error_before_connected=self._on_connection_error_before_connected,
            on_connection_error_after_connected=self._on_connection_error_after_connected,
        )

    def start(self, parent: Any) -> None:  # noqa: ANN401
        """Take over a new connection, before its first message is fetched."""
        if process.is_running():
            for outage in (self._taking, self._settling):
                process.current().watch(outage)
        channel = parent.task_consumer.channel
        if not isinstance(channel, redis_transport.Channel) or not self._fits:
            self._taking.over()
            return
        self._channel = channel
        if process.is_running():
            process.current().backlog.count_queues = QueueDepths(parent, channel)
        # Celery's `--disable-prefetch` counts embedding tasks too, which need no free thread.
        vars(channel.qos).pop("can_consume", None)
        in_progress = parent.pool.delivery_tags()
        if parent.hub is not None:
            run_ready_acknowledgements(parent.hub)
        self._tell_put_back(self._settlement.begin(channel))
        self.settle_done()
        for tag in self._left - in_progress:
            channel.qos.restore_by_tag(tag)  # has no effect if the message has been settled
        self._left.clear()
        MessageFetcher(channel, OrdinaryMessages(parent), self._malformed, self._taking, self._put)
        self._keep_when_closed(channel.qos)

    def stop(self, parent: Any) -> None:  # noqa: ANN401
        """Let go of the connection; called when it is lost, and at shutdown."""
        if parent.blueprint.state != bootsteps.RUN:
            return  # tasks that finish now are still settled, and kombu puts the rest back
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.qos._flush()  # noqa: SLF001 - forgets what is settled
            self._left.update(channel.qos._delivered)  # noqa: SLF001 - kombu has no other list
            channel.qos._on_collect.cancel()  # noqa: SLF001 - it would restore them when the process ends

    def _keep_when_closed(self, qos: redis_transport.QoS) -> None:
        restore: Callable[..., None] = qos.restore_unacked_once

        def restore_unacked_once(_: object, **options: object) -> None:
            if self._consumer.blueprint.state == bootsteps.RUN:
                return
            self.settle_done()
            try:
                restore(**options)
            except qos.channel.ResponseError as error:
                log.warning("what is unfinished comes back after the visibility timeout only: %s", explain(error))

        # Celery's own steps change a channel's `can_consume` in the same way.
        vars(qos)["restore_unacked_once"] = MethodType(restore_unacked_once, qos)

    def _settle_soon(self, settle: Callable[..., None], *args: object, **options: object) -> object:
        """Replaces the consumer's own method. `settle` is a message's ``ack_log_error`` or ``reject_log_error``."""
        message: Message = settle.__self__  # type: ignore[attr-defined]
        if not isinstance(message.channel, redis_transport.Channel) or not self._fits:
            return self._call_soon_ack(settle, *args, **options)
        _logger, _errors, *rest = args
        requeue = settle.__name__ == "reject_log_error" and bool(options.get("requeue", rest and rest[0]))
        self._put(Done(message.delivery_tag, servers_of(message), requeue))
        return None

    def _put(self, done: Done) -> None:
        self._done.append(done)
        if self._consumer.hub is None:
            self.settle_done()
        elif not self._is_settling_soon:
            self._is_settling_soon = True
            self._consumer.hub.call_soon(self.settle_done)

    def _settle_later(self, error: Exception) -> None:
        """Schedule another attempt after a refusal by the server; the settled messages are kept until then."""
        self._refused += 1
        self._settling.failed(explain(error))
        if isinstance(error, ReadOnlyError) and self._channel is not None:
            self._channel.pool.disconnect(inuse_connections=False)  # a failover has made a replica of that server
        self._try_again(self._backoff.delay(self._refused))

    def _try_again(self, delay_s: float) -> None:
        if self._consumer.hub is not None and not self._is_settling_soon:
            self._is_settling_soon = True
            self._consumer.hub.call_later(delay_s, self.settle_done)

    @staticmethod
    def _moved() -> None:
        """Let answers follow the broker, where both are one server: idle connections to the former one may stand."""
        if process.is_running():
            process.current().writer.leave_server()

    @staticmethod
    def _tell_put_back(count: int) -> None:
        if count:
            log.warning(
                "%d messages are put back: their answers are unknown to the server that is the broker now", count
            )

    def _failed(self, error: Exception) -> None:
        """Delay reconnecting after the server has refused a command."""
        if isinstance(error, self._consumer.connection_errors):
            return
        self._failures = 1 if self._taking.health.ok else self._failures + 1
        self._taking.failed(explain(error))
        until = time.monotonic() + self._backoff.delay(self._failures)
        while time.monotonic() < until:
            maybe_shutdown()
            time.sleep(_PAUSE_STEP_S)

    def _on_connection_error_before_connected(self, error: Exception) -> None:
        type(self._consumer).on_connection_error_before_connected(self._consumer, error)
        self._failed(error)

    def _on_connection_error_after_connected(self, error: Exception) -> None:
        type(self._consumer).on_connection_error_after_connected(self._consumer, error)
        self._failed(error)

    def settle_done(self) -> None:
        """Settle the finished messages, if there is a connection."""
        self._is_settling_soon = False
        channel = self._channel
        if channel is None:
            return
        done = [self._done.popleft() for _ in range(len(self._done))]
        try:
            put_back = self._settlement.settle(channel, done)
        except channel.connection_errors as error:
            # Nothing is lost: settling a message twice has no further effect.
            self._done.extendleft(reversed(done))
            self._refused += 1
            self._try_again(self._backoff.delay(self._refused))
            log.debug("%d messages are settled over the next connection: %s", len(done), error)
            return
        except channel.ResponseError as error:
            self._done.extendleft(reversed(done))
            self._settle_later(error)
            return
        self._tell_put_back(put_back)
        self._refused = 0
        self._settling.over()
        for each in done:
            channel.qos._delivered.pop(each.tag, None)  # noqa: SLF001 - a message of an earlier connection is not in it
