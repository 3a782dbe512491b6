"""One turn of one peer: started on an empty server, warmed, measured, killed."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.peers.accounting import Tally, percentile
from benchmarks.peers.peers import VISIBILITY_S
from benchmarks.peers.process import PeerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.peers.corpus import Task
    from benchmarks.peers.doors import Door
    from benchmarks.peers.peers import Peer, Setup

START_S, DRAIN_S, POLL_S = 180.0, 300.0, 0.02
QUIET_S = 8.0
"""A restarted peer that says nothing for so long has nothing more to say."""


@dataclass(frozen=True)
class Speed:
    """The speed at which a list was answered."""

    items_per_s: float
    processor_ms: float
    """The peer's processor time for an item, without the Redis server."""
    embeddings: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class HalfLoad:
    """Answer times while tasks come at half the speed."""

    tasks_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Accident:
    """The cost of one `kill -9`."""

    tasks: int
    answered_before: int
    lost: int
    doubled: int


class Trial:
    """A started peer."""

    quiet_s = QUIET_S

    def __init__(self, peer: Peer, process: PeerProcess, door: Door) -> None:
        self.peer, self.process, self._door = peer, process, door

    @classmethod
    def of(cls, peer: Peer, setup: Setup, kind: str, url: str, folder: Path) -> Trial:
        """Prepare one; entering its process starts it."""
        folder.mkdir(parents=True, exist_ok=True)
        door = peer.door(url)
        variables = peer.variables(setup, kind, url, folder)
        return cls(peer, PeerProcess(peer.line(), variables, folder, door), door)

    def warm_up(self, tasks: Sequence[Task]) -> None:
        """Wait until it answers one task, and then the others."""
        for part in (tasks[:1], tasks[1:]):
            self._finish(self._sent(part), START_S)

    def speed(self, tasks: Sequence[Task]) -> Speed:
        """Send all at once, and wait for the last answer."""
        spent, started = self.process.processor_s(), time.time()
        tally = self._sent(tasks)
        self._finish(tally, DRAIN_S)
        spent = self.process.processor_s() - spent
        seconds = max(tally.at.values()) - started
        return Speed(len(tasks) / seconds, 1000 * spent / len(tasks), tally.embeddings)

    def half_load(self, tasks: Sequence[Task], tasks_per_s: float, seed: int) -> HalfLoad:
        """Send tasks one by one at random moments, whatever has been answered."""
        chance, sent = random.Random(seed), {}
        tally = Tally(frozenset(task["task_id"] for task in tasks))
        due = time.time()
        for task in tasks:
            due += chance.expovariate(tasks_per_s)
            time.sleep(max(0.0, due - time.time()))
            sent[task["task_id"]] = due
            self._door.send([task])
        self._finish(tally, DRAIN_S)
        milliseconds = [1000 * each for each in tally.latencies(sent)]
        return HalfLoad(tasks_per_s, percentile(milliseconds, 50), percentile(milliseconds, 99))

    def accident(self, tasks: Sequence[Task], share: float = 1 / 3, limit_s: float = DRAIN_S) -> Accident:
        """Kill it when a share of the tasks is answered, start it again, and wait until all is said.

        Args:
            tasks: all sent at once.
            share: of the tasks, answered before the kill.
            limit_s: the longest time before the kill: a script answers everything at its end.
        """
        tally = self._sent(tasks)
        self._until(lambda: tally.answered >= share * len(tasks), tally, limit_s)
        self.process.kill()
        tally.add(self._door.answers())
        before = tally.answered
        if self.peer.way != "memory":
            if self.peer.way == "celery":
                time.sleep(VISIBILITY_S + 1)  # until then Redis keeps what a dead worker held
            self.process.start()
            self._until_quiet(tally, tasks[0] | {"task_id": "probe"})
        return Accident(len(tasks), before, tally.lost, tally.doubled)

    def _sent(self, tasks: Sequence[Task]) -> Tally:
        self._door.send(tasks)
        return Tally(frozenset(task["task_id"] for task in tasks))

    def _finish(self, tally: Tally, limit_s: float) -> None:
        if not self._until(lambda: tally.complete, tally, limit_s):
            message = f"{tally.lost} of {len(tally.expected)} tasks had no answer after {limit_s:g} s"
            raise RuntimeError(f"{message}:\n{self.process.log_tail}")

    def _until(self, condition: Callable[[], bool], tally: Tally, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not condition():
            self.process.check()
            if time.monotonic() > deadline:
                return False
            if not tally.add(self._door.answers()):
                time.sleep(POLL_S)
        return True

    def _until_quiet(self, tally: Tally, probe: Task) -> None:
        """Wait until one more task is answered, and then until no answer has come for a while."""
        probed = self._sent([probe])
        last, deadline = time.monotonic(), time.monotonic() + START_S
        while time.monotonic() - last < self.quiet_s or not (probed.complete or time.monotonic() > deadline):
            self.process.check()
            answers = self._door.answers()
            if probed.add(answers) + tally.add(answers):
                last = time.monotonic()
            time.sleep(POLL_S)
