"""The identity of a backend's weights."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class _Identity(Protocol):
    @property
    def revision(self) -> str: ...
    @property
    def digest(self) -> str: ...


CheckpointT = TypeVar("CheckpointT", bound=_Identity)


class Identified(Generic[CheckpointT]):
    """Base of the backends whose weights come from a checkpoint, which may be shared by two towers."""

    _checkpoint: CheckpointT

    @property
    def revision(self) -> str:
        """Commit of the model's files, if known."""
        return self._checkpoint.revision

    @property
    def digest(self) -> str:
        """Fingerprint of the model's weights, once they are loaded."""
        return self._checkpoint.digest
