"""Registry of configured models, each created once, on first use."""

from __future__ import annotations

from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import TaskError, in_one_line
from legit_embedding.models.config import KINDS, REMOTE_BACKENDS, default_model
from legit_embedding.models.settings import misconfigured
from legit_embedding.models.tower import Tower

if TYPE_CHECKING:
    from collections.abc import Mapping

    from legit_embedding.models.backend import Backend, Recipe
    from legit_embedding.models.config import Kind, ModelConfig

# Import paths rather than classes, so that producers and the command line import neither torch nor a model library.
BACKENDS = {
    "open_clip": "legit_embedding.models.open_clip:OpenClipModel",
    "transformers": "legit_embedding.models.transformers:TransformersModel",
}
REMOTE = "legit_embedding.remote.model:RemoteModel"
_PROTOCOL = ("recipe", "load", "collate", "forward", "samples")


class Registry:
    """Configured models by name. Thread-safe.

    A model that serves both kinds has two towers, each with its own engine queue: ``NAME (image)`` and ``NAME (text)``.
    The queue of any other model has the model's name. A tower's backend is imported and created once, on first use,
    together with the other tower's, because they share their files.

    Args:
        models: the settings of each model.

    Raises:
        ConfigError: a ``backend`` is malformed, or a name clashes with another model's queue.
    """

    def __init__(self, models: Mapping[str, ModelConfig]) -> None:
        self._models = dict(models)
        self._paths = {name: _backend_path(name, config) for name, config in self._models.items()}
        self._towers: dict[str, Tower] = {}
        for name, config in self._models.items():
            for kind in config.serves:
                self._add(Tower(name, kind, config.only(kind), paired=len(config.serves) > 1))
        self._chosen: dict[tuple[str | None, Kind], Tower] = {
            (tower.model, tower.kind): tower for tower in self._towers.values()
        }
        for kind in KINDS:
            if (default := default_model(self._models, kind)) is not None:
                self._chosen[None, kind] = self._chosen[default, kind]
        self._recipes: dict[str, Recipe] = {}
        self._lock = RLock()

    def __getitem__(self, queue: str) -> Backend:
        """Return the backend of this queue.

        Raises:
            KeyError: there is no such queue.
            ConfigError: the backend cannot be imported, or rejects the settings.
        """
        tower = self._towers[queue]
        if tower.backend is None:
            with self._lock:
                if tower.backend is None:
                    self._make(tower.model)
        assert tower.backend is not None  # noqa: S101 - created above, unless an error was raised
        return tower.backend

    def recipe(self, queue: str) -> Recipe:
        """Return the recipe of this queue's backend, the same object on every call.

        Raises:
            KeyError: there is no such queue.
            ConfigError: a file that the recipe reads is missing.
        """
        recipe = self._recipes.get(queue)
        if recipe is None:
            with self._lock:
                recipe = self._recipes.get(queue) or self[queue].recipe()
                self._recipes[queue] = recipe
        return recipe

    def names(self, kind: Kind | None = None) -> tuple[str, ...]:
        """Return the models' names in configuration order, optionally only those that serve a kind."""
        return tuple(name for name, config in self._models.items() if kind is None or kind in config.serves)

    def queues(self) -> tuple[str, ...]:
        """Names of all towers' queues, in configuration order."""
        return tuple(self._towers)

    def tower(self, queue: str) -> Tower:
        """Return the tower of this queue.

        Raises:
            KeyError: there is no such queue.
        """
        return self._towers[queue]

    def backends(self) -> dict[str, Backend]:
        """Return the backends of the models that are computed here, by queue.

        Raises:
            ConfigError: a backend cannot be created.
        """
        return {queue: self[queue] for queue, tower in self._towers.items() if not tower.config.is_remote}

    def remotes(self) -> dict[str, Any]:
        """Return the models that are computed elsewhere, by queue: each a `RemoteModel`.

        Raises:
            ConfigError: a model's settings do not fit its backend.
        """
        return {queue: self[queue] for queue, tower in self._towers.items() if tower.config.is_remote}

    def dim(self, model: str) -> int:
        """Return a model's default vector length; known once the model is loaded.

        Raises:
            KeyError: there is no such model.
        """
        tower = next(tower for tower in self._towers.values() if tower.model == model)
        return tower.config.dimensions or self[tower.queue].dim

    def resolve(self, model: str | None, kind: Kind) -> Tower:
        """Return the tower for a task of this kind: of the named model, or of the default or only model for the kind.

        Raises:
            TaskError: ``unknown_model``, with the valid names.
        """
        tower = self._chosen.get((model, kind))
        if tower is None:
            raise self._unknown(model, kind)
        return tower

    def _add(self, tower: Tower) -> None:
        if tower.queue in self._towers:
            reason = f"the name is also that of a queue of the model {self._towers[tower.queue].model!r}; rename one"
            raise misconfigured(tower.model, "name", reason)
        self._towers[tower.queue] = tower

    def _unknown(self, model: str | None, kind: Kind) -> TaskError:
        if model is None:
            reason = f"the task names no model, and no {kind} model is the default"
        elif (config := self._models.get(model)) is None:
            reason = f"there is no model {model!r}"
        else:
            reason = f"the model {model!r} embeds {config.serves[0]}s and the task is {kind}"
        known = ", ".join(self.names(kind)) or "none"
        return TaskError("unknown_model", f"{reason}; known {kind} models: {known}")

    def _make(self, name: str) -> None:
        """Create the backends of a model's towers."""
        towers = [tower for tower in self._towers.values() if tower.model == name]
        backend = self._imported(name)
        if callable(getattr(backend, "towers", None)):
            made: Mapping[Kind, Backend] = backend.towers(name, self._models[name])
        elif len(towers) == 1:
            made = {towers[0].kind: backend(name, towers[0].config)}
        else:
            reason = f"the backend {self._models[name].backend!r} serves one kind; set kind to image or to text"
            raise misconfigured(name, "kinds", reason)
        for tower in towers:
            tower.backend = made[tower.kind]

    def _imported(self, name: str) -> Any:  # noqa: ANN401 - any user-supplied class
        config = self._models[name]
        module_name, _, attribute = self._paths[name].partition(":")
        try:
            backend = getattr(import_module(module_name), attribute)
        except Exception as error:  # importing the module may raise anything; report it to the operator
            reason = f"cannot import {config.backend!r}: {in_one_line(error)}"
            raise misconfigured(name, "backend", reason) from error
        missing = [method for method in _PROTOCOL if not callable(getattr(backend, method, None))]
        if missing and not config.is_remote:
            reason = f"{config.backend!r} is no model backend: it has no {', '.join(missing)}"
            raise misconfigured(name, "backend", reason)
        return backend


def _backend_path(model: str, config: ModelConfig) -> str:
    if config.is_remote:
        return REMOTE
    path = BACKENDS.get(config.backend, config.backend)
    module, colon, attribute = path.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        known = ", ".join([*BACKENDS, *sorted(REMOTE_BACKENDS)])
        raise misconfigured(model, "backend", f"expected {known} or package.module:Class, got {config.backend!r}")
    return path
