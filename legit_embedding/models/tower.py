"""One kind of one model, as the engine and the tasks see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from legit_embedding.models.backend import Backend
    from legit_embedding.models.config import Kind, ModelConfig


class Tower:
    """What serves the tasks of one kind of one model; a model of both kinds has two.

    Args:
        model: the model's name in the registry, as results say it.
        kind: what this tower embeds.
        config: the model's settings, for this tower alone.
        paired: whether the model has another tower.
    """

    __slots__ = ("backend", "config", "kind", "model", "queue")

    backend: Backend | None
    """Known once something has asked for it."""

    def __init__(self, model: str, kind: Kind, config: ModelConfig, *, paired: bool) -> None:
        self.model = model
        self.kind = kind
        self.config = config
        self.queue = f"{model} ({kind})" if paired else model
        self.backend = None

    @property
    def revision(self) -> str:
        """The revision of the model's weights; empty while that is not known."""
        revision: str = getattr(self.backend, "revision", "")
        return revision

    @property
    def digest(self) -> str:
        """The fingerprint of the model's weights; empty before they are loaded."""
        digest: str = getattr(self.backend, "digest", "")
        return digest

    def identity(self) -> dict[str, str]:
        """What tells whether two vectors are of one space."""
        known = {"revision": self.revision, "digest": self.digest}
        return {"model": self.model, "kind": self.kind} | {name: value for name, value in known.items() if value}

    def dimensions(self, wanted: int | None) -> int | None:
        """The length to which this tower's vectors are cut for a task; None for the full one.

        Raises:
            TaskError: ``invalid_task``, with the lengths that would do.
        """
        if wanted is None:
            return self.config.dimensions
        if wanted in self.config.matryoshka:
            return wanted
        known = ", ".join(map(str, self.config.matryoshka)) or "none (models.NAME.matryoshka is not set)"
        detail = f"dimensions: the model {self.model!r} does not cut its vectors to {wanted}; known lengths: {known}"
        raise TaskError("invalid_task", detail)
