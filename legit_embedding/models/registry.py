"""The models that the settings name, each made once and only when something needs it."""

from __future__ import annotations

from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING

from legit_embedding.config import default_model
from legit_embedding.errors import TaskError
from legit_embedding.models.settings import misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from legit_embedding.config import Kind, ModelConfig
    from legit_embedding.models.backend import Backend, Recipe

# By path, so that this module costs a producer or the command line nothing: no torch, no model library.
BACKENDS = {
    "open_clip": "legit_embedding.models.open_clip:OpenClipModel",
    "transformers": "legit_embedding.models.transformers:TransformersModel",
}
RESERVED = frozenset({"http", "ollama"})
_PROTOCOL = ("recipe", "load", "collate", "forward", "samples")


class Registry:
    """The configured models by name; safe to use from many threads.

    A model's backend is imported and made when it is first asked for, once.

    Args:
        models: the settings of each model.

    Raises:
        ConfigError: a ``backend`` that cannot be one.
    """

    def __init__(self, models: Mapping[str, ModelConfig]) -> None:
        self._models = dict(models)
        self._paths = {name: _backend_path(name, config.backend) for name, config in self._models.items()}
        self._backends: dict[str, Backend] = {}
        self._recipes: dict[str, Recipe] = {}
        self._lock = RLock()

    def __getitem__(self, name: str) -> Backend:
        """The model of this name.

        Raises:
            KeyError: there is none.
            ConfigError: its backend cannot be imported, or refuses the settings.
        """
        backend = self._backends.get(name)
        if backend is None:
            with self._lock:
                backend = self._backends.get(name) or self._make(name)
                self._backends[name] = backend
        return backend

    def recipe(self, name: str) -> Recipe:
        """The CPU half of this model; the same object at every call.

        Raises:
            KeyError: there is no such model.
            ConfigError: what the recipe reads is not there.
        """
        recipe = self._recipes.get(name)
        if recipe is None:
            with self._lock:
                recipe = self._recipes.get(name) or self[name].recipe()
                self._recipes[name] = recipe
        return recipe

    def names(self, kind: Kind | None = None) -> tuple[str, ...]:
        """The models' names, in the settings' order; of one kind, where one is given."""
        return tuple(name for name, config in self._models.items() if kind in {None, config.kind})

    def resolve(self, model: str | None, kind: Kind) -> str:
        """The model for a task of this kind: the one it names, or the kind's default (or only) one.

        Raises:
            TaskError: ``unknown_model``, with the names that would do.
        """
        if model is None:
            return self._default(kind)
        config = self._models.get(model)
        if config is None:
            raise self._unknown(f"there is no model {model!r}", kind)
        if config.kind != kind:
            raise self._unknown(f"the model {model!r} embeds {config.kind}s and the task is {kind}", kind)
        return model

    def _default(self, kind: Kind) -> str:
        name = default_model(self._models, kind)
        if name is None:
            raise self._unknown(f"the task names no model, and no {kind} model is the default", kind)
        return name

    def _unknown(self, reason: str, kind: Kind) -> TaskError:
        known = ", ".join(self.names(kind)) or "none"
        return TaskError("unknown_model", f"{reason}; known {kind} models: {known}")

    def _make(self, name: str) -> Backend:
        config = self._models[name]
        module_name, _, attribute = self._paths[name].partition(":")
        try:
            backend = getattr(import_module(module_name), attribute)
        except Exception as error:  # whatever the module does when it is imported is the operator's to know
            reason = f"cannot import {config.backend!r}: {type(error).__name__}: {error}"
            raise misconfigured(name, "backend", reason) from error
        missing = [method for method in _PROTOCOL if not callable(getattr(backend, method, None))]
        if missing:
            reason = f"{config.backend!r} is no model backend: it has no {', '.join(missing)}"
            raise misconfigured(name, "backend", reason)
        made: Backend = backend(name, config)
        return made


def _backend_path(model: str, backend: str) -> str:
    if backend in RESERVED:
        raise misconfigured(model, "backend", f"the backend {backend!r} is not in this version yet")
    path = BACKENDS.get(backend, backend)
    module, colon, attribute = path.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        known = ", ".join(BACKENDS)
        raise misconfigured(model, "backend", f"expected {known} or package.module:Class, got {backend!r}")
    return path
