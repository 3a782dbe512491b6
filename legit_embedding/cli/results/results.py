"""Reading and decoding of result stream entries."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from legit_embedding.cli.shared.connection import BLOCK_MS
from legit_embedding.cli.shared.failures import one_line
from legit_embedding.encoding import decode_entry
from legit_embedding.redis_io.entries import newest, pages, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import redis
    from numpy.typing import NDArray

    from legit_embedding.redis_io.entries import Entry

PAGE = 256
RETRY_S = 1.0

Vectors = Literal["none", "base64", "floats"]

NUMBERS = ("dim", "prep_ms", "queue_ms", "compute_ms")
FLAGS = ("truncated", "repaired")


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One entry of a result stream."""

    id: str
    fields: dict[str, str]

    @classmethod
    def of(cls, entry: Entry) -> ResultEntry:
        """Decode an entry as the server returned it."""
        entry_id, fields = entry
        return cls(entry_id.decode(), texts(fields))

    def vector(self) -> NDArray[np.float32] | None:
        """Decode the vector, or return None if the entry has none.

        Raises:
            ValueError: it cannot be decoded.
        """
        return decode_entry(self.fields) if "embedding" in self.fields else None

    def described(self) -> dict[str, Any]:
        """Return every field but the vector, with numbers and metadata decoded."""
        line: dict[str, Any] = {"id": self.id}
        line |= {name: text for name, text in self.fields.items() if name not in {"embedding", "encoding"}}
        for name in NUMBERS:
            if name in line and line[name].isdecimal():
                line[name] = int(line[name])
        for name in FLAGS:
            if name in line:
                line[name] = line[name] == "1"
        if "metadata" in line:
            line["metadata"] = _json(line["metadata"])
        return line


def _json(text: str) -> Any:  # noqa: ANN401 - metadata is whatever a producer sent
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects results; a criterion that is None matches everything."""

    status: str | None = None
    model: str | None = None
    app: str | None = None

    def takes(self, entry: ResultEntry) -> bool:
        """True if an entry matches every criterion."""
        wanted = {"status": self.status, "model": self.model, "app": self.app}
        return all(value is None or entry.fields.get(name) == value for name, value in wanted.items())


class Reader:
    """Reads one result stream, one page at a time.

    Args:
        client: the Redis client.
        stream: the stream's name.
        say: reports an unavailable server while following the stream.
    """

    def __init__(self, client: redis.Redis, stream: str, say: Callable[[str], None]) -> None:
        self._client = client
        self._stream = stream
        self._say = say

    def kept(self, after: str) -> Iterator[list[ResultEntry]]:
        """Yield the current entries of the stream."""
        for page in pages(self._client, self._stream, after, newest(self._client, self._stream), PAGE):
            yield [ResultEntry.of(entry) for entry in page]

    def followed(self, after: str) -> Iterator[list[ResultEntry]]:
        """Yield current and future entries, without end; survives an unavailable server."""
        while True:
            page = self._read(after)
            if page:
                after = page[-1].id
                yield page

    def _read(self, after: str) -> list[ResultEntry]:
        try:
            reply = self._client.xread({self._stream: after}, count=PAGE, block=BLOCK_MS)
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._say(f"Redis: {one_line(error)}; trying again")
            time.sleep(RETRY_S)
            return []
        streams = cast("list[tuple[bytes, list[Entry]]]", reply)
        return [ResultEntry.of(entry) for _, entries in streams for entry in entries]
