"""Failures of a request to a remote model."""

from __future__ import annotations

from typing import Literal

Failure = Literal["connect", "timeout", "status", "broken"]
"""Kinds of failure: no connection, no answer in time, an answer that says so, an answer that cannot be right."""


class RefusedError(Exception):
    """The remote refuses these items, as one of them is at fault.

    Args:
        sentence: the reason.
        too_large: whether they are too many or too long.
    """

    def __init__(self, sentence: str, *, too_large: bool = False) -> None:
        super().__init__(sentence)
        self.too_large = too_large


class OutageError(Exception):
    """The remote does not embed at present; the items are sent again.

    Args:
        kind: the kind of failure.
        sentence: the reason.
        retry_after_s: the pause that the remote asks for, in seconds.
        everyone: whether it would fail for any other item too, so that none needs to be tried.
    """

    def __init__(self, kind: Failure, sentence: str, *, retry_after_s: float = 0.0, everyone: bool = False) -> None:
        super().__init__(sentence)
        self.kind: Failure = kind
        self.retry_after_s = retry_after_s
        self.everyone = everyone
