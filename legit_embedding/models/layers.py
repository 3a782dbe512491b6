"""Layers that sentence-transformers applies after pooling: Dense, LayerNorm and Normalize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legit_embedding.models.sidecar import Module

    Weights = Mapping[str, torch.Tensor]

_VECTOR = "sentence_embedding"
_ACTIVATIONS = "torch.nn.modules."


class Normalize(torch.nn.Module):
    """Scales each vector to unit length."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Normalise each row."""
        return functional.normalize(vectors, dim=-1)


class Dense(torch.nn.Module):
    """Linear map and activation, with an optional residual connection."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        wide, narrow = int(config["in_features"]), int(config["out_features"])
        self.linear = torch.nn.Linear(wide, narrow, bias=bool(config.get("bias", True)))
        self.activation = _activation(config.get("activation_function", f"{_ACTIVATIONS}activation.Tanh"))
        self.adds = bool(config.get("use_residual", False))
        self.residual = (
            torch.nn.Linear(wide, narrow, bias=False) if self.adds and wide != narrow else torch.nn.Identity()
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map each row."""
        mapped: torch.Tensor = self.activation(self.linear(vectors))
        return mapped + self.residual(vectors) if self.adds else mapped


class LayerNorm(torch.nn.Module):
    """Layer normalisation."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(int(config["dimension"]))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Normalise each row."""
        normalised: torch.Tensor = self.norm(vectors)
        return normalised


_LEARNED: dict[str, type[Dense | LayerNorm]] = {"Dense": Dense, "LayerNorm": LayerNorm}


def stacked(modules: tuple[Module, ...], weights: Callable[[str], Weights]) -> torch.nn.Module:
    """Build the layers in order, in float32, without a final normalisation.

    Args:
        modules: the modules as the model lists them.
        weights: returns the tensors in a module's folder.

    Raises:
        ValueError: a layer is unknown or does not fit its weights.
    """
    modules = tuple(module for module in modules if module.type != "Dropout")  # only used in training
    while modules and modules[-1].type == "Normalize":  # controlled by our own setting
        modules = modules[:-1]
    layers: list[torch.nn.Module] = []
    for module in modules:
        if {module.config.get(f"module_{end}_name") or _VECTOR for end in ("input", "output")} != {_VECTOR}:
            message = f"its layer {module.type} works on the tokens' vectors, and only text vectors are made here"
            raise ValueError(message)
        layers.append(Normalize() if module.type == "Normalize" else _learned(module, weights))
    return torch.nn.Sequential(*layers)


def _learned(module: Module, weights: Callable[[str], Weights]) -> torch.nn.Module:
    made = _LEARNED.get(module.type)
    if made is None:
        known = ", ".join([*_LEARNED, "Normalize"])
        message = f"its vectors pass through a layer {module.type} which is not known here (only {known} are)"
        raise ValueError(message)
    try:
        layer = made(module.config)
        layer.load_state_dict(dict(weights(module.path)))
    except KeyError as missing:
        message = f"its layer {module.type} in {module.path} does not say its {missing}"
        raise ValueError(message) from None
    except RuntimeError as error:
        message = f"the weights of its layer {module.type} in {module.path} do not fit: {error}"
        raise ValueError(message) from None
    return layer.eval().requires_grad_(False)


def _activation(path: str | None) -> torch.nn.Module:
    """Create one of torch's activations from its import path; no other path is imported.

    Raises:
        ValueError: the path is not one of torch's activations.
    """
    name = (path or f"{_ACTIVATIONS}linear.Identity").rpartition(".")[2]
    found = getattr(torch.nn, name, None)
    if not (path is None or path.startswith("torch.")) or not (
        isinstance(found, type) and issubclass(found, torch.nn.Module)
    ):
        message = f"the activation {path!r} of its layer Dense is none of torch's, and code beside a model is never run"
        raise ValueError(message)
    made: torch.nn.Module = found()
    return made
