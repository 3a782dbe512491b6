"""Live views that refresh until Ctrl-C."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from legit_embedding.cli.shared.failures import one_line
from legit_embedding.cli.shared.terminal import console, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

PASSING = (RedisConnectionError, RedisTimeoutError, ResponseError)
"""Errors that a live view survives: the server is unavailable, loading or failing over."""


def keep_watching(
    look: Callable[[], Any], interval: float, board: Callable[[Any, str], RenderableType], *, as_json: bool
) -> None:
    """Show each look's result, in place or as a line of JSON, until Ctrl-C; errors of the first look propagate.

    Args:
        look: returns a dataclass instance.
        interval: seconds between two looks.
        board: lays out a look's result, with a line about the error that prevents a newer one, if any.
        as_json: print JSON, and errors on standard error.
    """
    with ExitStack() as stack:
        found, trouble = look(), ""
        show = _print if as_json else _screen(stack, board)
        while True:
            show(found, trouble)
            time.sleep(interval)
            try:
                found, trouble = look(), ""
            except PASSING as error:
                trouble = f"Redis: {one_line(error)}; trying again"


def _print(found: Any, trouble: str) -> None:  # noqa: ANN401 - any dataclass instance
    if trouble:
        say(trouble)
    else:
        print_json(asdict(found))


def _screen(stack: ExitStack, board: Callable[[Any, str], RenderableType]) -> Callable[[Any, str], None]:
    from rich.live import Live

    live = stack.enter_context(Live(console=console(), auto_refresh=False))
    return lambda found, trouble: live.update(board(found, trouble), refresh=True)
