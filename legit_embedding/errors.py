"""The errors that a task, a setting or a model can end in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

ErrorCode = Literal[
    "invalid_task",
    "unknown_model",
    "fetch_refused",
    "fetch_failed",
    "fetch_timeout",
    "too_large",
    "undecodable",
    "expired",
    "revoked",
    "reply_to_refused",
    "handoff_refused",
    "non_finite",
    "model_failed",
    "poisoned",
    "dead_letter",
]

ERROR_CODES: frozenset[str] = frozenset(get_args(ErrorCode))


class TaskError(Exception):
    """A task that cannot be answered with a vector.

    Args:
        code: one of the contract's error codes.
        detail: one sentence that a person can act on.
        transient: whether trying again later may succeed.
    """

    def __init__(self, code: ErrorCode, detail: str, *, transient: bool = False) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class ConfigError(Exception):
    """A setting, or a model it names, that the worker cannot start with."""


class GivenBackError(Exception):
    """A task that is handed back to its source unanswered, because the worker is stopping."""


class BusyError(Exception):
    """What a task needs is in use by others: the task waits, and nothing is wrong with it.

    Args:
        held_up: whether that is still so.
    """

    def __init__(self, held_up: Callable[[], bool]) -> None:
        super().__init__("what the task needs is in use")
        self.held_up = held_up


class CudaForbiddenError(RuntimeError):
    """CUDA was touched from a thread that must stay on the CPU."""


def in_one_line(error: BaseException, *, named: bool = True, longest: int = 300) -> str:
    """An error's sentence without its line breaks, for a log line or an answer.

    Args:
        error: any error; one that says nothing is named.
        named: begin with the error's class.
        longest: how many characters at most.
    """
    said = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {said}" if named and said else said or name)[:longest]
