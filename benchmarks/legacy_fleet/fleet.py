"""Starts and stops the whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.legacy_fleet.queues import PREP_QUEUE, embed_queue
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self


class Fleet:
    """Prep workers and one embed worker per model, each a process; as a context manager it leaves none behind.

    Args:
        redis_url: where its queues and its streams are.
        directory: for settings and logs.
        config: what ``legit.toml`` holds; the new worker may have the same.
        prep_workers: how many.
        env: more environment variables.
        args: more arguments of every worker's command.
    """

    def __init__(
        self,
        redis_url: str,
        directory: Path,
        config: Mapping[str, Any],
        *,
        prep_workers: int = 2,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> None:
        self._args = args
        self._redis_url, self._directory, self._config, self._env = redis_url, directory, config, dict(env or {})
        self.prep = [self._worker("prep", f"prep{number}", PREP_QUEUE, {}) for number in range(1, prep_workers + 1)]
        self.embed = {
            model: self._worker("embed", f"embed-{model}", embed_queue(model), {"LEGACY_MODEL": model})
            for model in config["models"]
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for worker in self:
            worker.__exit__(*exc_info)

    def __iter__(self) -> Iterator[Worker]:
        yield from self.prep
        yield from self.embed.values()

    def start(self) -> None:
        """Start all the processes, without waiting for them."""
        for worker in self:
            worker.start()

    def wait_ready(self, timeout: float = 120) -> Self:
        """Wait until every worker is ready."""
        for worker in self:
            worker.wait_ready(timeout)
        return self

    def _worker(self, module: str, name: str, queue: str, env: Mapping[str, str]) -> Worker:
        app = f"benchmarks.legacy_fleet.{module}"
        command = ("-m", "celery", "-A", app, "worker", "--pool=solo", "-Q", queue, "-n", f"{name}@%h", *self._args)
        return Worker(self._redis_url, self._directory / name, self._config, command=command, env=self._env | dict(env))
