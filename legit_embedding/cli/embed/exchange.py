"""Sends the inputs as tasks, a window of them at a time, and keeps the answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from legit_embedding.cli.embed.failures import LEFT_OUT, Failure
from legit_embedding.cli.shared.patience import Patience
from legit_embedding.cli.shared.replies import Replies
from legit_embedding.cli.shared.terminal import say
from legit_embedding.cli.submit.feeder import Feeder, Item, Progress
from legit_embedding.cli.submit.jsonl import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from redis.client import Pipeline

    from legit_embedding.cli.embed.inputs import Inputs
    from legit_embedding.cli.embed.journal import Journal

WINDOW = 2000
"""Most tasks that wait for their answers at a time: a few times what a worker holds in its batches, and little enough
for other producers of the task stream."""

MAX_LENGTH = 10_000
"""Length at which the task stream takes no more, as with `submit`."""

KEPT_S = 7 * 24 * 3600
"""Seconds for which the server remembers a run that was interrupted. Later it sends its unanswered tasks again."""

ANSWERS_KEPT_S = KEPT_S + 24 * 3600


class Exchange:
    """One run's traffic.

    Each batch of tasks and the position that it reaches are one transaction. A run that was killed therefore knows what
    it has sent, and sends no task twice.

    Args:
        client: the Redis client.
        tasks: the task stream.
        journal: keeps the answers.
        on_answers: called after answers are kept.
    """

    def __init__(self, client: redis.Redis, tasks: str, journal: Journal, on_answers: Callable[[], None]) -> None:
        self._client = client
        self._tasks = tasks
        self._journal = journal
        self._on_answers = on_answers
        self._replies = Replies(client, journal.stream, ANSWERS_KEPT_S)
        self._mark = f"{journal.stream}:sent"
        self._patience = Patience(client, tasks, say)
        self._sent = 0

    def run(self, inputs: Inputs, model: str | None) -> None:
        """Send what was not sent yet, and return when everything is answered."""
        position = self._go_on()
        items = inputs.items({} if model is None else {"model": model}, position, self._leave_out)
        feeder = Feeder(self._client, self._tasks, MAX_LENGTH, Progress(), self._wait, self._remember)
        feeder.feed(self._windowed(items))
        while self._sent > self._journal.answered:
            self._collect()

    def forget(self) -> None:
        """Delete the run's keys."""
        self._replies.remove()
        self._client.delete(self._mark)

    def _go_on(self) -> int:
        """Return the position up to which everything was sent; without the server's memory, nothing unanswered was."""
        self._replies.make()
        mark = self._client.get(self._mark)
        if mark is None:
            self._sent = self._journal.answered
            return 0
        position, self._sent = json.loads(mark)
        return int(position)

    def _windowed(self, items: Iterator[Item]) -> Iterator[Item]:
        given = self._sent
        for item in items:
            if self._journal.knows(item.position):
                continue
            while given - self._journal.answered >= WINDOW:
                self._collect()
            yield Item(item.position, self._addressed(item))
            given += 1

    def _addressed(self, item: Item) -> bytes:
        task = json.loads(item.payload) | {"task_id": str(item.position), "reply_to": self._journal.stream}
        task.pop("metadata", None)  # they would only be echoed
        return encode(task)

    def _remember(self, pipeline: Pipeline, batch: list[Item]) -> None:
        self._sent += len(batch)
        pipeline.set(self._mark, json.dumps([batch[-1].position, self._sent]), ex=KEPT_S)

    def _wait(self, length: int | None) -> None:
        if length is not None:
            self._patience.waiting()

    def _collect(self) -> None:
        entries = self._replies.read()
        if not entries:
            self._patience.waiting()
            return
        for entry in entries:
            self._journal.record(entry)
        self._journal.flush()
        self._replies.drop(entries)
        self._patience.answered()
        self._on_answers()

    def _leave_out(self, why: str) -> None:
        self._journal.failures.add(Failure(None, LEFT_OUT, why))
