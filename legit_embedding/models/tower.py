"""Tower: one kind of one model, with its own engine queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from legit_embedding.models.backend import Backend
    from legit_embedding.models.config import Kind, ModelConfig


class Tower:
    """Serves the tasks of one kind of one model; a model of both kinds has two towers.

    Args:
        model: the model's name in the registry, as given in results.
        kind: what this tower embeds.
        config: the model's settings, restricted to this tower.
        paired: True if the model has another tower.
    """

    __slots__ = ("backend", "config", "kind", "model", "queue")

    backend: Backend | None
    """Created on first use; None before."""

    def __init__(self, model: str, kind: Kind, config: ModelConfig, *, paired: bool) -> None:
        self.model = model
        self.kind = kind
        self.config = config
        self.queue = f"{model} ({kind})" if paired else model
        self.backend = None

    @property
    def revision(self) -> str:
        """Revision of the model's weights; empty if unknown."""
        revision: str = getattr(self.backend, "revision", "")
        return revision

    @property
    def digest(self) -> str:
        """Fingerprint of the model's weights; empty before they are loaded."""
        digest: str = getattr(self.backend, "digest", "")
        return digest

    def identity(self) -> dict[str, str]:
        """Return the fields that must match for two vectors to be comparable."""
        known = {"revision": self.revision, "digest": self.digest}
        return {"model": self.model, "kind": self.kind} | {name: value for name, value in known.items() if value}

    def dimensions(self, wanted: int | None) -> int | None:
        """Return the length to which vectors are truncated for a task; None for full length.

        Raises:
            TaskError: ``invalid_task``, with the valid lengths.
        """
        if wanted is None or wanted == self.config.dimensions:
            return self.config.dimensions
        if wanted in self.config.matryoshka:
            return wanted
        known = ", ".join(map(str, self.config.matryoshka)) or "none (models.NAME.matryoshka is not set)"
        detail = f"dimensions: the model {self.model!r} does not cut its vectors to {wanted}; known lengths: {known}"
        raise TaskError("invalid_task", detail)
