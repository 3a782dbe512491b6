"""The recipes that prep threads call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legit_embedding.config import Settings
    from legit_embedding.models.backend import Recipe
    from legit_embedding.models.registry import Registry
    from legit_embedding.prep_processes.processes import PrepProcesses


class PrepRecipes:
    """Each model's own recipe, or with `prep.processes` one whose work a child process does.

    Args:
        settings: the process's settings.
        registry: the models.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[str, Recipe] = {}
        self.processes: PrepProcesses | None = None
        """The child processes; None if prep threads do everything."""
        self.more_threads = 0
        """Prep threads besides the worker's own. Those that wait for a process use no core: others download meanwhile,
        and have the next item ready for it."""
        if settings.prep.processes and not all(model.is_remote for model in settings.models.values()):
            from legit_embedding.prep_processes.processes import PrepProcesses

            self.processes = PrepProcesses(settings.models, settings.prep.processes, settings.fetch.max_bytes)
            self.more_threads = settings.prep.processes

    def start(self) -> None:
        """Start the processes, if there are any.

        Raises:
            ConfigError: they cannot start.
        """
        if self.processes is not None:
            for queue in self._registry.backends():
                self._registry.recipe(queue)  # its files are downloaded by this process, if at all
            self.processes.start()

    def of(self, queue: str) -> Recipe:
        """The recipe of a model's queue."""
        recipe = self._registry.recipe(queue)
        if self.processes is None or self._registry.tower(queue).config.is_remote:
            return recipe
        if queue not in self._made:
            from legit_embedding.prep_processes.recipe import ProcessRecipe

            self._made[queue] = ProcessRecipe(recipe, queue, self.processes)
        return self._made[queue]
