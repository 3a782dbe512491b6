"""The space that vectors belong to: vectors of two spaces cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from legit_embedding.encoding import ENCODING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Space:
    """Model, revision and length of a vector."""

    model: str
    revision: str
    """Empty where it is not known."""
    dim: int

    @classmethod
    def of(cls, fields: Mapping[str, str], dim: int) -> Space:
        """Read the space from the fields of a result entry."""
        return cls(fields.get("model", ""), fields.get("revision", ""), dim)

    def __str__(self) -> str:
        revision = f" at revision {self.revision}" if self.revision else ""
        return f"{self.model or 'no named model'}{revision} ({self.dim} numbers)"


@dataclass(frozen=True, slots=True)
class Form:
    """The space of the vectors of a file, and their encoding on the way to it."""

    space: Space
    encoding: str

    @classmethod
    def of(cls, fields: Mapping[str, str], dim: int) -> Form:
        """Read the form from the fields of a result entry."""
        return cls(Space.of(fields, dim), fields.get("encoding", ENCODING))

    def __str__(self) -> str:
        return f"{self.space} as {self.encoding}"
