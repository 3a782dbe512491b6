"""What a broken connection to Redis must not cost: messages, or the worker."""

from __future__ import annotations

import logging
from types import MethodType
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks
from kombu.transport import redis as redis_transport
from kombu.transport import virtual

from legit_embedding.pool.drain import run_ready_acknowledgements

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.message import Message

log = logging.getLogger(__name__)


class Reconnect(bootsteps.StartStopStep):
    """Carries the messages that the worker holds over to its next connection.

    With Redis as the broker, whoever knows a message's tag may settle it, over any connection. kombu settles over the
    connection that brought the message only, and Celery 5.7 ends the worker when that is closed. Here:

    - a message in progress when the connection breaks stays in progress, and is settled over the next one;
    - a message that waited (for its time, or for its rate) is put back, because Celery forgets it;
    - a message that kombu had taken off its list but not noted as unacknowledged yet is put back.

    What Redis took off the list for a reply that never arrived is lost all the same (docs/celery.md).
    """

    requires = (Tasks,)

    def __init__(self, parent: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's consumer and its options
        super().__init__(parent, **kwargs)
        self._channel: redis_transport.Channel | None = None
        self._half_taken: list[Message] = []
        self._left: set[str] = set()
        self._unsettled: list[Callable[[], None]] = []
        call_soon_ack = parent.call_soon_ack
        parent.call_soon_ack = lambda settle, *args, **options: call_soon_ack(self._carried(settle), *args, **options)

    def start(self, parent: Any) -> None:  # noqa: ANN401
        """Called for each connection, before its first message is taken."""
        channel = parent.task_consumer.channel
        if not isinstance(channel, redis_transport.Channel):
            return
        self._channel = channel
        in_progress = parent.pool.delivery_tags()
        if parent.hub is not None:
            run_ready_acknowledgements(parent.hub)
        unsettled, self._unsettled = self._unsettled, []
        for settle in unsettled:
            settle()
        while self._half_taken:
            message = self._half_taken[-1]
            # Under its old tag: where only the answer to the note was lost, settling it settles both.
            virtual.Channel._restore(channel, message)  # noqa: SLF001 - Redis's own looks among the noted only
            self._half_taken.pop()
            log.warning("put back message %s, which was being taken when the connection broke", message.delivery_tag)
        for tag in self._left - in_progress:
            channel.qos.restore_by_tag(tag)  # does nothing where the message is settled by now
        self._left.clear()
        self._watch(parent, channel.qos)

    def stop(self, parent: Any) -> None:  # noqa: ANN401
        """Called when a connection is lost, and at shutdown."""
        channel, self._channel = self._channel, None
        if channel is not None and parent.blueprint.state == bootsteps.RUN:
            channel.qos._flush()  # noqa: SLF001 - forgets what is settled
            self._left.update(channel.qos._delivered)  # noqa: SLF001 - kombu has no other list
            channel.qos._on_collect.cancel()  # noqa: SLF001 - it would restore them when the process ends

    def _watch(self, consumer: Any, qos: redis_transport.QoS) -> None:  # noqa: ANN401
        note: Callable[..., None] = qos.append
        restore: Callable[..., None] = qos.restore_unacked_once

        def append(_: object, message: Message, delivery_tag: str) -> None:
            try:
                note(message, delivery_tag)
            except Exception:
                self._half_taken.append(message)
                raise

        def restore_unacked_once(_: object, **options: object) -> None:
            if consumer.blueprint.state != bootsteps.RUN:
                restore(**options)

        # Celery's own steps change a channel's `can_consume` in the same way.
        vars(qos).update(append=MethodType(append, qos), restore_unacked_once=MethodType(restore_unacked_once, qos))

    def _carried(self, settle: Callable[..., None]) -> Callable[..., None]:
        """A message's ``ack_log_error`` or ``reject_log_error``, over whichever connection there is."""
        message: Message = settle.__self__  # type: ignore[attr-defined]
        if not isinstance(message.channel, redis_transport.Channel):
            return settle

        def carried(logger: logging.Logger, errors: tuple[type[Exception], ...], *args: object) -> None:
            if self._channel is not None:
                message.channel = self._channel
            try:
                settle(logger, (), *args)
            except Exception as error:  # noqa: BLE001 - a channel that is closed raises more than connection errors
                log.debug("message %s is settled over the next connection: %r", message.delivery_tag, error)
                self._unsettled.append(lambda: carried(logger, errors, *args))

        vars(carried)["__self__"] = message  # marks it as an acknowledgement, as it does a message's own method
        return carried
