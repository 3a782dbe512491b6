"""The errors of tasks, settings and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

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
        detail: one sentence that tells a person what to do or fix.
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
    """A setting, or a model named in one, with which the worker cannot start."""


class GivenBackError(Exception):
    """A task that is given back to its source unanswered, because the worker is stopping or cannot answer it."""


class BusyError(Exception):
    """A resource that a task needs is in use by others: the task has to wait, and is not at fault.

    Args:
        held_up: returns whether the resource is still in use.
    """

    def __init__(self, held_up: Callable[[], bool]) -> None:
        super().__init__("what the task needs is in use")
        self.held_up = held_up


class CudaForbiddenError(RuntimeError):
    """CUDA was used from a thread that must stay on the CPU."""


def misfit(error: ValidationError) -> tuple[str, str]:
    """Return where the first value stands that does not fit, as ``field.0.field``, and why it does not."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(map(str, first["loc"])), plain(first)


def plain(problem: ErrorDetails) -> str:
    """Return pydantic's message without the class of exception that pydantic writes before a validator's own words."""
    return problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def in_one_line(error: BaseException, *, named: bool = True, longest: int = 300) -> str:
    """An error's message without line breaks, for a log line or an answer.

    Args:
        error: any error; if its message is empty, its class is used.
        named: whether to begin with the error's class.
        longest: the maximum length in characters.
    """
    said = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {said}" if named and said else said or name)[:longest]
