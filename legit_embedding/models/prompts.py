"""Prompts: prefixes for texts, as documented in the model's card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of one model."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """Prompts by the name used in tasks."""
    default: str = ""
    """Name of the prompt for tasks that name none; empty for no prompt."""
    pooled: bool = True
    """True if pooling includes the prompt's tokens."""

    def __post_init__(self) -> None:
        """Check that the default is one of the prompts.

        Raises:
            ValueError: it is not.
        """
        if self.default and self.default not in self.texts:
            message = f"{self.default!r} is none of the prompts ({', '.join(self.texts) or 'there are none'})"
            raise ValueError(message)

    def text(self, name: str | None) -> str:
        """Return the prompt of this name, or the default one.

        Raises:
            TaskError: ``invalid_task``, with the valid names.
        """
        found = self.texts.get(name or self.default)
        if found is not None:
            return found
        if not name:
            return ""
        known = ", ".join(self.texts) or "none"
        raise TaskError("invalid_task", f"prompt_name: the model has no prompt {name!r}; known prompts: {known}")
