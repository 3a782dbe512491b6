"""All the turns of all the peers."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.peers import corpus
from benchmarks.peers.trial import Trial
from tests.servers import Server

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.peers.corpus import Task
    from benchmarks.peers.peers import Peer, Setup
    from benchmarks.peers.trial import Accident, HalfLoad, Speed

WARM_UP, ACCIDENT = 40, 300
"""Tasks; an accident takes more than the two batches of 128 that most peers would have in hand."""
ACCIDENT_SHARES = (1 / 3, 1 / 2, 2 / 3, 1 / 4, 3 / 4)
"""Of the tasks, answered before a kill: the first, the second ..., and over again."""


@dataclass(frozen=True)
class Corpora:
    """The texts and photos that are sent."""

    mixed: list[str]
    equal: list[str]
    photos: list[Path]

    @classmethod
    def made(cls, options: Namespace, folder: Path) -> Corpora:
        """Make them from the seed."""
        return cls(
            corpus.mixed_texts(options.texts, options.seed),
            corpus.equal_texts(options.equal, options.seed),
            corpus.photo_files(options.photos, options.seed, folder),
        )

    def tasks(self, count: int, name: str) -> list[Task]:
        """As many tasks of mixed lengths, from the corpus's start and over again."""
        return corpus.text_tasks([self.mixed[number % len(self.mixed)] for number in range(count)], name)


@dataclass
class Found:
    """The measurements of one peer."""

    peer: Peer
    mixed: list[Speed] = field(default_factory=list)
    equal: list[Speed] = field(default_factory=list)
    photos: list[Speed] = field(default_factory=list)
    half_load: HalfLoad | None = None
    memory_mb: float = 0.0
    copies: int = 0
    accidents: list[Accident] = field(default_factory=list)
    error: str = ""


def run(peers: Sequence[Peer], corpora: Corpora, setup: Setup, options: Namespace, folder: Path) -> list[Found]:
    """Let the peers take turns, each turn beginning with another one."""
    found = {peer.name: Found(peer) for peer in peers}
    for turn in range(options.turns):
        for peer in [*peers[turn % len(peers) :], *peers[: turn % len(peers)]]:
            here = found[peer.name]
            if not here.error:
                print(f"{time.strftime('%X')} turn {turn + 1}, {peer.name} ...", file=sys.stderr)
                try:
                    _turn(here, turn, corpora, setup, options, folder / f"{turn}-{peers.index(peer)}")
                except (RuntimeError, OSError) as error:
                    here.error = str(error)
                    print(f"{peer.name}: {error}", file=sys.stderr)
    return list(found.values())


def _turn(found: Found, turn: int, corpora: Corpora, setup: Setup, options: Namespace, folder: Path) -> None:
    with _started(found.peer, setup, "text", folder / "t") as trial:
        trial.warm_up(corpora.tasks(WARM_UP, "warm"))
        found.equal.append(trial.speed(corpus.text_tasks(corpora.equal, "equal")))
        found.mixed.append(trial.speed(corpus.text_tasks(corpora.mixed, "mixed")))
        if turn == 0:
            _once(found, trial, corpora, options)
    if turn == 0 and corpora.photos:
        with _started(found.peer, setup, "image", folder / "i") as trial:
            trial.warm_up(corpus.photo_tasks(corpora.photos[:4], "warm"))
            found.photos.append(trial.speed(corpus.photo_tasks(corpora.photos, "photo")))


def _once(found: Found, trial: Trial, corpora: Corpora, options: Namespace) -> None:
    found.memory_mb, found.copies = trial.process.memory_mb(), trial.process.model_copies()
    rate = found.mixed[0].items_per_s / 2
    if found.peer.served:
        count = max(20, round(rate * options.half_load_s))
        found.half_load = trial.half_load(corpora.tasks(count, "half"), rate, options.seed)
    _accidents(found, trial, corpora, options.kills)


def _accidents(found: Found, trial: Trial, corpora: Corpora, kills: int) -> None:
    """Kill it once and again; one that keeps its tasks in memory has lost them after the first time."""
    count = min(ACCIDENT, 2 * len(corpora.mixed))
    for kill in range(kills if found.peer.way != "memory" else 1):
        share = ACCIDENT_SHARES[kill % len(ACCIDENT_SHARES)]
        limit_s = share * count / found.mixed[0].items_per_s if not found.peer.served else 60.0
        found.accidents.append(trial.accident(corpora.tasks(count, f"accident{kill}"), share, limit_s))


@contextmanager
def _started(peer: Peer, setup: Setup, kind: str, folder: Path) -> Iterator[Trial]:
    """One peer on a server of its own."""
    with Server("valkey", folder / "server") as server:
        trial = Trial.of(peer, setup, kind, server.url, folder / "p")
        with trial.process:
            yield trial
