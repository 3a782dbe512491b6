"""Which errors are the operator's to mend, and how they are told."""

from __future__ import annotations

import errno

from redis.exceptions import RedisError

from legit_embedding.errors import ConfigError, in_one_line


def one_line(error: BaseException) -> str:
    """An error in one line; some have nothing to say but their name."""
    return in_one_line(error, named=False)


def reason(error: Exception) -> str | None:
    """One line for a person; None for an error that is a bug here, or that click handles better."""
    if isinstance(error, ConfigError):
        return one_line(error)
    if isinstance(error, RedisError):
        return f"Redis: {one_line(error)}"
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return one_line(error)
    return None
