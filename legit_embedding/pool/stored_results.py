"""Celery's result backend in Redis: results of one turn stored in one round trip, and a failover survived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.backends.redis import RedisBackend

from legit_embedding.pool.greenlets import current_owner, together
from legit_embedding.redis_io.client import leave_replicas

if TYPE_CHECKING:
    from collections.abc import Sequence

    Write = tuple[str | bytes, str | bytes, int | None]


def follow_master(backend: object) -> None:
    """Let a Redis backend connect anew when its server has become a replica; to be called before it connects.

    Celery gives up at once on a write that is refused and goes on with the same connections, so behind a proxy or a
    DNS name each would lose another result. A lost connection it replaces, and redis-py sends the write again.
    """
    if isinstance(backend, RedisBackend):
        leave_replicas(backend.client.connection_pool)


def store_together(backend: object) -> None:
    """Let embedding tasks share the round trips of a Redis backend; any other backend stays as it is.

    Only the two commands that store a result are replaced: the look at an earlier one, and the write. Celery's tracer
    goes on once its own result is stored, as ever, so the order of signals, callbacks and chords is the same.
    """
    if not isinstance(backend, RedisBackend):
        return
    own = type(backend)
    if (own.get, own._set) == (RedisBackend.get, RedisBackend._set):  # noqa: SLF001
        StoredResults(backend)


class StoredResults:
    """Replaces two methods of one backend.

    Args:
        backend: Celery's, of one server or of Sentinels.
    """

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._get_one, self._set_one = backend.get, backend._set  # noqa: SLF001
        vars(backend).update(get=self._get, _set=self._set)

    def _get(self, key: str | bytes) -> Any:  # noqa: ANN401 - what Redis holds
        return self._get_one(key) if current_owner() is None else together(self._backend.mget, key)

    def _set(self, key: str | bytes, value: str | bytes, expires: int | None = None) -> None:
        if current_owner() is None:
            self._set_one(key, value, expires)
        else:
            together(self._set_all, (key, value, expires))

    def _set_all(self, writes: Sequence[Write]) -> list[Exception | None]:
        backend = self._backend
        try:
            with backend.client.pipeline() as pipe:
                for key, value, expires in writes:
                    seconds = backend.expires if expires is None else expires
                    pipe.set(key, value, ex=seconds or None)
                    pipe.publish(key, value)
                pipe.execute()
        except backend.connection_errors:
            raise  # each task's own attempt: Celery makes the next one after a pause
        except Exception:  # noqa: BLE001 - one of them is refused: each for itself
            return [self._refusal(write) for write in writes]
        return [None] * len(writes)

    def _refusal(self, write: Write) -> Exception | None:
        try:
            self._set_one(*write)
        except Exception as error:  # noqa: BLE001 - raised where its task waits
            return error
        return None
