"""Check of the registered models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.errors import ConfigError
from legit_embedding.migration.checks.finding import fail, ok, warn

if TYPE_CHECKING:
    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding
    from legit_embedding.models.registry import Registry

RANDOM = "random:"


def files(deployment: Deployment) -> Finding:
    """Read architectures and tokenizers; load weights only on request, as that takes as long as a worker's startup."""
    from legit_embedding.models.registry import Registry

    models = deployment.settings.models
    try:
        registry = Registry(models)
        for name in registry.queues():
            registry.recipe(name)
            if deployment.load_models and not registry.tower(name).config.is_remote:
                _load(registry, name)
    except ConfigError as error:
        return fail(str(error), "mend the setting, or put the model's files there")
    random = [name for name, model in models.items() if model.pretrained.startswith(RANDOM)]
    if random:
        return warn(f"random weights: {', '.join(random)}", "good for rehearsals only: set pretrained")
    what = f"{', '.join(models)}: " + (
        "weights loaded" if deployment.load_models else "architecture and tokenizer found"
    )
    return ok(what)


def _load(registry: Registry, name: str) -> None:
    import torch

    registry[name].load(torch.device("cpu"), torch.float32)
