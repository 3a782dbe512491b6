"""One Celery worker that turns images and text into vectors.

Importing the package makes the worker pool known to the stock ``celery`` command, so that

    celery -A legit_embedding worker --pool=gpubatch

works without any further registration. The Celery application itself is ``legit_embedding.celery:app``.

The names in ``__all__`` are the public Python API; every other module may change between minor versions. They are
imported when they are first used, so that a producer pays for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from legit_embedding.pool.registration import register

if TYPE_CHECKING:
    from legit_embedding.config import StreamConfig
    from legit_embedding.encoding import decode_embedding, decode_entry, encode_embedding, encode_entry
    from legit_embedding.models.backend import Backend, Prepared, Recipe
    from legit_embedding.pipeline.caller import Caller
    from legit_embedding.pipeline.protocols import Processor, Source
    from legit_embedding.wire.task import TaskObject

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "Caller",
    "Prepared",
    "Processor",
    "Recipe",
    "Source",
    "StreamConfig",
    "TaskObject",
    "__version__",
    "decode_embedding",
    "decode_entry",
    "encode_embedding",
    "encode_entry",
]

_HOMES = {
    "Backend": "legit_embedding.models.backend",
    "Caller": "legit_embedding.pipeline.caller",
    "Prepared": "legit_embedding.models.backend",
    "Processor": "legit_embedding.pipeline.protocols",
    "Recipe": "legit_embedding.models.backend",
    "Source": "legit_embedding.pipeline.protocols",
    "StreamConfig": "legit_embedding.config",
    "TaskObject": "legit_embedding.wire.task",
    "decode_embedding": "legit_embedding.encoding",
    "decode_entry": "legit_embedding.encoding",
    "encode_embedding": "legit_embedding.encoding",
    "encode_entry": "legit_embedding.encoding",
}
"""Where each public name is defined."""

register()


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
