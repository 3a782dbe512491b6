"""A model whose recipe does what an item says to the process that it runs in, for tests of prep processes.

In the settings: ``backend = "tests.deadly_model:DeadlyModel"``. An image file, or a text, begins with one of the
orders; every other item is prepared as by `NullModel`.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from legit_embedding.models.backend import Prepared
from legit_embedding.models.null import NullModel, NullOptions, NullRecipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.models.backend import Recipe

KILL = b"<kill>"
HANG = b"<hang>"
"""A file's name follows, to which the process writes its id before it waits to be killed."""
RAISE = b"<raise>"
EXIT = b"<exit>"
CUDA = b"<cuda>"
WINDOWS = b"<windows>"
NUMBERS = b"<numbers>"
LARGE = b"<large>"
OBJECTS = b"<objects>"
LARGE_BYTES = 40 << 20


class DeadlyOptions(NullOptions):
    starts_thread: bool = False


class DeadlyModel(NullModel):
    options_schema: ClassVar[type[NullOptions]] = DeadlyOptions
    options: DeadlyOptions

    def recipe(self) -> Recipe:
        if self.options.starts_thread:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return DeadlyRecipe(self.options.tokens if self.kind == "text" else 0)


class DeadlyRecipe(NullRecipe):
    def image(self, data: bytes, max_pixels: int) -> Prepared:
        return self._obeyed(data) or super().image(data, max_pixels)

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        found = super().texts(texts, prompts)
        obeyed = [self._obeyed(text.encode("utf-8", "replace")) for text in texts]
        return [order or item for order, item in zip(obeyed, found, strict=True)]

    def _obeyed(self, data: bytes) -> Prepared | None:
        for order, obey in ORDERS.items():
            if data.startswith(order):
                return obey(data.removeprefix(order))
        return None


def kill(_rest: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(rest: bytes) -> None:
    path = Path(rest.decode())
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    threading.Event().wait()


def fail(_rest: bytes) -> None:
    raise ZeroDivisionError("an order\nto raise")


def leave(_rest: bytes) -> None:
    raise SystemExit(3)


def use_cuda(_rest: bytes) -> None:
    torch.zeros(1, device="cuda")


def windows(_rest: bytes) -> Prepared:
    made = tuple(Prepared(np.arange(n, dtype=np.int64), cost=n) for n in (3, 1, 2))
    return Prepared(made[0].array, cost=3, truncated=True, windows=made)


def numbers(_rest: bytes) -> Prepared:
    return Prepared(np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4).T, cost=7, repaired=True)


def large(_rest: bytes) -> Prepared:
    return Prepared(np.ones(LARGE_BYTES, np.uint8), cost=1)


def objects(_rest: bytes) -> Prepared:
    return Prepared(np.array(["text"]), cost=1)


ORDERS: dict[bytes, Callable[[bytes], Prepared | None]] = {
    KILL: kill,
    HANG: hang,
    RAISE: fail,
    EXIT: leave,
    CUDA: use_cuda,
    WINDOWS: windows,
    NUMBERS: numbers,
    LARGE: large,
    OBJECTS: objects,
}
