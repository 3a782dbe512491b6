"""A worker without an engine: what it reads from the task stream it answers at once.

Run as a program it is one process of a group: ``python -m tests.stream_worker URL CONSUMER CLAIM_IDLE_MS``. The text
``poison`` kills it. SIGTERM makes it leave.
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Event, Lock, Timer
from typing import TYPE_CHECKING, Any

from legit_embedding.config import StreamConfig
from legit_embedding.encoding import encode_embedding
from legit_embedding.redis_io.connection import Backoff
from legit_embedding.sinks.writer import StreamWriter
from legit_embedding.sources.stream.source import StreamSource
from legit_embedding.wire.result import Embedded, Result
from legit_embedding.wire.task import Address
from tests.told import put

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from legit_embedding.errors import TaskError
    from legit_embedding.wire.result import Written
    from legit_embedding.wire.stream_entry import Entry

QUICK = Backoff(first_s=0.02, cap_s=0.2)


def vector(text: str) -> Embedded:
    """An answer of the right shape."""
    import numpy as np

    values = np.full(4, len(text), dtype=np.float32)
    return Embedded("text", "null", 4, "base64_fp32", encode_embedding(values))


class EntrySource(StreamSource):
    """A source that hands whole entries on."""

    def __init__(self, worker: StreamWorker, **options: Any) -> None:
        self._worker = worker
        super().__init__(taker=worker, **options)  # type: ignore[arg-type]

    def _submit(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._worker.submit(entry)


class StreamWorker:
    """A source, a sink, and nothing between them but a pause and a limit."""

    def __init__(
        self,
        config: StreamConfig,
        url: str,
        consumer: str,
        *,
        limit: int = 512,
        more: int = 0,
        pause_s: float = 0.0,
        timeout_s: float = 10.0,
        answering: bool = True,
    ) -> None:
        self.config = config
        self.limit = limit
        self.more = more
        """How many further entries it takes if the way from the server holds as many."""
        self.pause_s = pause_s
        self.seen: list[Entry] = []
        self.held: dict[str, Entry] = {}
        self.answering = answering
        self._lock = Lock()
        self.writer = StreamWriter(config, url, consumer, timeout_s=timeout_s, backoff=QUICK)
        self.source = EntrySource(self, config=config, url=url, consumer=consumer, timeout_s=timeout_s, backoff=QUICK)

    def __enter__(self) -> Self:
        self.writer.start()
        self.source.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """A warm shutdown: what was read is answered."""
        self.source.stop_reading()
        self.writer.close(5)
        self.source.close()

    def room(self, far: int = 0) -> int:
        return self.limit + min(far, self.more) - len(self.held)

    def submit(self, entry: Entry) -> None:
        with self._lock:
            self.seen.append(entry)
            self.held[entry.origin.id] = entry
        if self.pause_s:
            timer = Timer(self.pause_s, self.work, [entry])
            timer.daemon = True
            timer.start()
        else:
            self.work(entry)

    def work(self, entry: Entry) -> None:
        if entry.raw.get("text") == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.answering:
            self.answer(entry, entry.error or vector(str(entry.raw.get("text"))))

    def answer(self, entry: Entry, outcome: Embedded | TaskError) -> None:
        put(self.writer, Result(Address.read(entry.raw, entry.origin.id), entry.origin, outcome), self.settled)

    def answer_all(self) -> None:
        self.answering = True
        for entry in list(self.held.values()):
            self.work(entry)

    def settled(self, written: Written) -> None:
        self.held.pop(written.result.origin.id, None)
        self.source.settled(written.result.origin.id)


def main() -> None:
    url, consumer, claim_idle_ms = sys.argv[1:]
    leave = Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    with StreamWorker(StreamConfig(claim_idle_ms=int(claim_idle_ms)), url, consumer, limit=64, pause_s=0.01):
        leave.wait()


if __name__ == "__main__":
    main()
