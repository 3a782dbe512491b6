"""Messages for errors that the operator can fix."""

from __future__ import annotations

import errno

from redis.exceptions import RedisError

from legit_embedding.errors import ConfigError, in_one_line


def one_line(error: BaseException) -> str:
    """Format an error as one line; an error without a message is shown by its name."""
    return in_one_line(error, named=False)


def reason(error: Exception) -> str | None:
    """Describe an error in one line; None for a bug of this program, or an error that click handles better."""
    if isinstance(error, ConfigError):
        return one_line(error)
    if isinstance(error, RedisError):
        return f"Redis: {one_line(error)}"
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return one_line(error)
    return None
