"""The content cache: items per second at shares of repeats, with `cache_s` and without.

Real MiniLM on this machine, from stream to stream. Some texts are embedded first; then lists are timed of which a share
repeats them, in turns with the cache on and off. Within a list no text is there twice.

    python -m benchmarks.repeats
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import minilm
from benchmarks.peers.corpus import mixed_texts
from benchmarks.report import arguments, show
from tests.clients import Client
from tests.servers import Server
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES, CACHE_S = (0.0, 0.5, 0.9), 3600


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=200, help="in each list")
    parser.add_argument("--turns", type=int, default=3)
    minilm.add_option(parser)
    options = parser.parse_args()
    figures: dict[tuple[float, int], list[float]] = {}
    with ExitStack() as stack:
        sides = {cache_s: _started(stack, cache_s, options.text_model) for cache_s in (0, CACHE_S)}
        known = mixed_texts(options.texts, seed=0)
        for client in sides.values():
            _seconds(client, known)
        seeds = count(1)
        for _ in range(options.turns):
            for share in SHARES:
                repeated = round(share * options.texts)
                texts = known[:repeated] + mixed_texts(options.texts - repeated, seed=next(seeds))
                for cache_s, client in sides.items():
                    figures.setdefault((share, cache_s), []).append(len(texts) / _seconds(client, texts))
    speeds = {key: statistics.median(values) for key, values in figures.items()}
    rows = [
        {
            "repeats": f"{share:.0%}",
            "off, items/s": speeds[share, 0],
            "on, items/s": speeds[share, CACHE_S],
            "on over off": speeds[share, CACHE_S] / speeds[share, 0],
        }
        for share in SHARES
    ]
    show(f"{options.texts} texts of 1 to 200 words", rows, {}, options.json)


def _started(stack: ExitStack, cache_s: int, text_model: str) -> Client:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(Server("valkey", folder / "server"))
    models = {"minilm": minilm.settings(text_model) | {"cache_s": cache_s}}
    stack.enter_context(Worker(server.url, folder / "worker", {"models": models})).wait_ready()
    return Client(server.url)


def _seconds(client: Client, texts: Sequence[str]) -> float:
    names = [f"{time.monotonic_ns()}-{number}" for number in range(len(texts))]
    started = time.perf_counter()
    with client.redis.pipeline() as pipe:
        for name, text in zip(names, texts, strict=True):
            pipe.xadd("embedding_tasks", {"payload": json.dumps({"task_id": name, "text": text})})
        pipe.execute()
    client.answers(names)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
