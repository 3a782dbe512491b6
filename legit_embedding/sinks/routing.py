"""The choice of the result stream for an answer."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from legit_embedding.config import StreamConfig
    from legit_embedding.wire.task import Address

_REMEMBERED = 4096


class Router:
    """Chooses the result stream of an answer: ``reply_to``, else the app's route, else the default."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._allows = lru_cache(_REMEMBERED)(config.allows)

    def route(self, address: Address) -> tuple[str, TaskError | None]:
        """Choose the stream for this address.

        Returns:
            The stream's key; and, if the address asked for a stream that is not allowed, the error that replaces the
            outcome, for the default stream.
        """
        wanted = address.reply_to or self._config.routes.get(address.app or "", self._config.results)
        if self._allows(wanted):
            return wanted, None
        return self._config.results, TaskError("reply_to_refused", self._reason(wanted))

    def _reason(self, stream: str) -> str:
        allowed = ", ".join(self._config.reply_to_allow)
        return f"the result stream {stream!r} is not allowed; streams.reply_to_allow has {allowed}"
