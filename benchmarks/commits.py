"""The commit of results through `Link` and `Packed`, against redis-py's own script call with the same script.

Both write the same 128 results per call, of 384 values each, to an embedded Valkey, in turns. Processor time is that of
this process, without the server.

    python -m benchmarks.commits
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from redis.asyncio import Redis

from benchmarks.report import arguments, show
from legit_embedding.config import StreamConfig
from legit_embedding.encoding import ENCODING, encode_embedding
from legit_embedding.redis_io.connection import Link
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.commit import SCRIPT, Batch
from legit_embedding.sinks.packing import EntryPacker
from legit_embedding.wire.result import Embedded, Origin, Result, Timings
from legit_embedding.wire.task import Address
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from legit_embedding.wire.result import Written

CONFIG = StreamConfig(result_maxlen=10_000)
ANSWERS, DIM, TURNS, CALLS, TIMEOUT_S = 128, 384, 10, 40, 10.0


class _Nobody:
    """The recipient of the outcome, who has nothing to do with it."""

    def written(self, written: Written) -> None: ...
    def unwritten(self, reason: str) -> None: ...
    def task_object(self) -> dict[str, Any]:
        return {}


def main() -> None:
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder, Server("valkey", Path(folder)) as server:
        packed, plain = asyncio.run(_measured(server.url))
    rows = [
        {"way": name, "results/s": 1e6 / wall, "us of wall per result": wall, "us of CPU per result": spent}
        for name, (wall, spent) in (("Link and Packed", packed), ("redis-py's script", plain))
    ]
    summary = {"wall, redis-py over ours": plain[0] / packed[0], "CPU, redis-py over ours": plain[1] / packed[1]}
    show(f"{ANSWERS} results per call", rows, summary, options.json)


async def _measured(url: str) -> list[tuple[float, float]]:
    link, client = Link(url, TIMEOUT_S), Redis.from_url(url, decode_responses=False)
    script = client.register_script(SCRIPT.source)
    vector = encode_embedding(np.random.default_rng(0).standard_normal(DIM))

    async def packed(answers: Sequence[Answer]) -> None:
        await Batch(answers, CONFIG, EntryPacker("worker")).commit(link)

    async def plain(answers: Sequence[Answer]) -> None:
        given: list[object] = [CONFIG.group, CONFIG.trim_maxlen, int(CONFIG.delete_on_ack), CONFIG.dedupe_s]
        for answer in answers:
            fields = answer.fields("worker")
            given += ["l", "", 2, 2 * len(fields)]
            for name, value in fields.items():
                given += [name, value]
        await script(keys=[CONFIG.tasks, CONFIG.results], args=given)

    ways, found = (packed, plain), ([], [])  # type: ignore[var-annotated]
    for turn in range(TURNS):
        for way, figures in zip(ways, found, strict=True):
            figures.append(await _timed(way, [_answer(vector, turn, number) for number in range(ANSWERS)]))
    await link.close()
    await client.aclose()
    return [tuple(statistics.median(column) for column in zip(*figures, strict=True)) for figures in found]


async def _timed(way: Callable[[Sequence[Answer]], Awaitable[None]], answers: Sequence[Answer]) -> tuple[float, float]:
    await way(answers)
    wall, spent = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        await way(answers)
    count = CALLS * len(answers)
    return 1e6 * (time.perf_counter() - wall) / count, 1e6 * (time.process_time() - spent) / count


def _answer(vector: str, turn: int, number: int) -> Answer:
    outcome = Embedded("text", "minilm", DIM, ENCODING, vector)
    result = Result(Address(f"{turn}-{number}"), Origin("local", f"{turn}-{number}"), outcome, Timings(1, 12, 30))
    return Answer(result, _Nobody(), len(vector), CONFIG.results)


if __name__ == "__main__":
    main()
