"""What is put before a text, as the model's card says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one model."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """By the name that tasks give."""
    default: str = ""
    """The name of the prompt for tasks that name none; empty for none."""
    pooled: bool = True
    """Whether the prompt's tokens count when the tokens become one vector."""

    def __post_init__(self) -> None:
        """Refuse a default that is none of the prompts.

        Raises:
            ValueError: it is none.
        """
        if self.default and self.default not in self.texts:
            message = f"{self.default!r} is none of the prompts ({', '.join(self.texts) or 'there are none'})"
            raise ValueError(message)

    def text(self, name: str | None) -> str:
        """The prompt of this name, or the default one.

        Raises:
            TaskError: ``invalid_task``, with the names that would do.
        """
        found = self.texts.get(name or self.default)
        if found is not None:
            return found
        if not name:
            return ""
        known = ", ".join(self.texts) or "none"
        raise TaskError("invalid_task", f"prompt_name: the model has no prompt {name!r}; known prompts: {known}")
