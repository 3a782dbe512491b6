"""Acknowledgements that are due while the event loop is not running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kombu.asynchronous import Hub

_ACKNOWLEDGEMENTS = {"ack_log_error", "reject_log_error", "settle_done"}


def run_ready_acknowledgements(hub: Hub) -> None:
    """Run the acknowledgements queued on an event loop that is not running.

    At a warm shutdown they would otherwise wait until the loop is closed, and a kill before that would redeliver
    finished work. All other callbacks are put back: the queue also holds the transport's reader, which must not deliver
    to a pool that is closing. Celery's prefork pool does the same.
    """
    ready = hub._pop_ready()  # noqa: SLF001 - no public way to run only some
    while ready:
        callback = ready.pop()
        if not _acknowledges(callback):
            hub.call_soon(callback)
            continue
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - one broken channel must not keep the rest unacknowledged
            hub.on_callback_error(callback, error)


def _acknowledges(callback: Any) -> bool:  # noqa: ANN401 - a vine promise, or anything
    return getattr(getattr(callback, "fun", None), "__name__", None) in _ACKNOWLEDGEMENTS
