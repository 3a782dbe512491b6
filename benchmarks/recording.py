"""Models that note their batches, and a process that runs the same batches through the bare models.

In a worker (`-I benchmarks.recording`) the remote-control commands `record` and `save_record` begin and end a note.
`python -m benchmarks.recording SETTINGS` is the bare side: it loads the same models on the same device, and for each
path that it reads from its standard input it runs that note's batches, one after the other and with nothing in between,
and prints how many seconds they and the processor took. The first note is run once before that, to warm up.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from celery.worker.control import control_command

from legit_embedding.config import Settings
from legit_embedding.engine.engine import Engine
from legit_embedding.models.backend import Prepared
from legit_embedding.models.open_clip import OpenClipModel
from legit_embedding.models.registry import Registry
from legit_embedding.models.transformers import TransformersModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from legit_embedding.models.backend import Recipe

    Tensors = Mapping[str, torch.Tensor]

CLIP, ENCODER = "benchmarks.recording:RecordedClip", "benchmarks.recording:RecordedEncoder"


class Record:
    """Which batches ran, in order."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, Tensors]] | None = None

    def note(self, model: str, batch: Tensors) -> Tensors:
        """Keep a batch, if a note is being made."""
        if self.batches is not None:
            # Of images only how many: their pixels are gigabytes, and make no difference to the speed.
            kept = {name: torch.empty(0) if name == "pixels" else tensor for name, tensor in batch.items()}
            self.batches.append((model, kept | {"items": torch.tensor(len(next(iter(batch.values()))))}))
        return batch


RECORD = Record()


@control_command()
def record(state: Any) -> dict[str, str]:  # noqa: ANN401, ARG001 - Celery's signature
    """Begin a note."""
    RECORD.batches = []
    return {"ok": "recording"}


@control_command(args=[("path", str)])
def save_record(state: Any, path: str) -> dict[str, str]:  # noqa: ANN401, ARG001
    """End the note and write it to a file."""
    torch.save(RECORD.batches, path)
    RECORD.batches = None
    return {"ok": "saved"}


class RecordedEncoder(TransformersModel):
    """A text encoder that notes its batches."""

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Tensors:
        """Pad, and note."""
        return RECORD.note(self.name, super().collate(arrays))


class RecordedClip(OpenClipModel):
    """An image tower that notes its batches, and takes files of bare pixels too."""

    def collate(self, arrays: Sequence[NDArray[np.generic]]) -> Tensors:
        """Stack, and note."""
        return RECORD.note(self.name, super().collate(arrays))

    def recipe(self) -> Recipe:  # type: ignore[override]
        """The recipe, with a short cut for pixels."""
        return PixelRecipe(super().recipe(), self.samples(1)[0])


class PixelRecipe:
    """An image recipe that takes files of a model's very pixels as they are."""

    max_tokens = 0

    def __init__(self, recipe: Recipe, like: NDArray[np.generic]) -> None:
        self._recipe = recipe
        self._like = like
        self.texts = recipe.texts
        self.handoff = recipe.handoff

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        """Decode and transform, unless that was done before."""
        if len(data) == self._like.nbytes:
            return Prepared(np.frombuffer(data, np.uint8).reshape(self._like.shape), cost=1)
        return self._recipe.image(data, max_pixels)


class Bare:
    """The models as an engine has loaded, measured and, if it is to, compiled them, without its loop."""

    def __init__(self, settings: Settings) -> None:
        self._backends = Registry(settings.models).backends()
        engine = Engine(self._backends, settings.engine, settings.device, settings.precision)
        engine.start()
        self._device = engine._loop._device.torch_device  # noqa: SLF001
        self._forwards = {name: queue.forward for name, queue in engine._queues.items()}  # noqa: SLF001
        self._warm = False

    def run(self, path: Path) -> dict[str, float]:
        """The seconds of a note's batches, which are on the device beforehand."""
        batches = [(name, self._staged(name, batch)) for name, batch in torch.load(path)]
        if not self._warm:
            self._run(batches)
            self._warm = True
        started, processor = time.perf_counter(), time.process_time()
        self._run(batches)
        return {"seconds": time.perf_counter() - started, "processor_s": time.process_time() - processor}

    def _run(self, batches: list[tuple[str, Tensors]]) -> None:
        with torch.inference_mode():
            for name, batch in batches:
                self._forwards[name](batch)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _staged(self, name: str, batch: Tensors) -> Tensors:
        batch = dict(batch)
        items = int(batch.pop("items"))
        if "pixels" in batch:
            batch = dict(self._backends[name].collate(self._backends[name].samples(items)))
        return {key: tensor.to(self._device) for key, tensor in batch.items()}


def main() -> None:
    bare = Bare(Settings(**json.loads(sys.argv[1])))
    for line in sys.stdin:
        print(json.dumps(bare.run(Path(line.strip()))), flush=True)


if __name__ == "__main__":
    main()
