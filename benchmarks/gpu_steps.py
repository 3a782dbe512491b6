"""The measurements of `benchmarks.gpu_check` on the device itself, one step per process.

    python -m benchmarks.gpu_steps STEP --device cuda:0 --json FILE

Every figure is written as soon as it is known, so that a step which is stopped loses only what it had not reached. With
``--device cpu`` a small image model stands in for the large one: that shows that a step works, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend

from benchmarks import minilm
from benchmarks.peaks import dense_peak
from legit_embedding.config import ModelConfig
from legit_embedding.engine.device.kernels import choose_attention
from legit_embedding.engine.device.open import open_device
from legit_embedding.engine.sizing import compiled
from legit_embedding.engine.sizing.host_reads import HostReads
from legit_embedding.engine.sizing.profile import launch, make_plan, run, survey
from legit_embedding.models.open_clip import OpenClipModel
from legit_embedding.models.transformers import TransformersModel
from tests.images import PHOTOS, encoded, photo
from tests.texts import texts
from tests.tiny_models import TINY_CLIP, add_tiny_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from legit_embedding.models.backend import Backend

SHAPES = 50
HEADS, HEAD = 12, 32
MEMORY_FRACTION = 0.8
PREP_THREADS = 16
RUNS = 3
LOOKS = 10


class Bench:
    """The device, the models, and a report that is always up to date."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = open_device(options.device)
        self.on_gpu = self.device.torch_device.type == "cuda"
        self.dtype = self.device.dtype("auto")
        self.figures: dict[str, Any] = {"device": self.device.choice.as_dict()}
        self.images = options.image_model
        if not self.on_gpu:
            add_tiny_clips(Path(tempfile.mkdtemp()))
            self.images = TINY_CLIP

    def add(self, name: str, figure: object) -> None:
        """Put down a figure."""
        self.figures[name] = figure
        self.options.json.write_text(json.dumps(self.figures, indent=2, default=str))
        print(f"{name}: {json.dumps(figure, default=str)}", flush=True)

    def backends(self) -> dict[str, Backend]:
        """Both models, not loaded."""
        images = ModelConfig(kind="image", backend="open_clip", name=self.images, pretrained="random:0")
        return {
            "images": OpenClipModel("images", images),
            "texts": TransformersModel("texts", minilm.config(self.options.text_model)),
        }

    def loaded(self, name: str) -> Backend:
        """One model, on the device."""
        backend = self.backends()[name]
        backend.load(self.device.torch_device, self.dtype)
        return backend

    def finish(self) -> None:
        """Wait for what was launched."""
        if self.on_gpu:
            torch.cuda.synchronize()


def attention(bench: Bench) -> None:
    """The kernel that attention takes, and the host's time for batches that all have shapes of their own."""
    chance = random.Random(0)
    for cudnn in (False, True):
        choose_attention(cudnn=cudnn)
        host_s, all_s, taken = [], [], set()
        for _ in range(SHAPES):
            n, length = chance.randint(1, 64), chance.randint(4, 256)
            heads = [torch.randn(n, HEADS, length, HEAD, device=bench.device.torch_device, dtype=bench.dtype)] * 3
            mask = torch.ones(n, 1, length, length, dtype=torch.bool, device=bench.device.torch_device)
            # What torch itself asks before it computes; by its name, because it has no public one.
            choice = vars(torch)["_fused_sdp_choice"](*heads, attn_mask=mask)
            taken.add(SDPBackend(choice).name)
            bench.finish()
            started = time.perf_counter()
            functional.scaled_dot_product_attention(*heads, attn_mask=mask)
            host_s.append(time.perf_counter() - started)
            bench.finish()
            all_s.append(time.perf_counter() - started)
        figures = {"kernels": sorted(taken), "host_ms": _spread(host_s), "until_done_ms": _spread(all_s)}
        bench.add("with cuDNN" if cudnn else "without cuDNN", figures)
    choose_attention(cudnn=False)


def start(bench: Bench) -> None:
    """The seconds until a model works, and what the survey sees."""
    for name in bench.backends():
        started = time.perf_counter()
        backend = bench.loaded(name)
        bench.add(f"{name}: load_s", time.perf_counter() - started)
        started = time.perf_counter()
        run(bench.device, backend, backend.forward, backend.samples(1))
        bench.add(f"{name}: first_forward_s", time.perf_counter() - started)
        budget = MEMORY_FRACTION * bench.device.free_bytes()
        points = survey(bench.device, backend, backend.forward, budget)
        bench.add(f"{name}: points", [asdict(point) for point in points])
        plan = make_plan(name, backend.kind, 0, points, budget, backend.samples(1)[0].nbytes)
        bench.add(f"{name}: plan", plan.as_dict() | {"in_flight": plan.in_flight()})


def sync(bench: Bench) -> None:
    """Launches under torch's own alarm for whatever waits for the device."""
    for name in bench.backends():
        backend = bench.loaded(name)
        for cost in (1, 2, 8) if backend.kind == "image" else (64, 300, 4096):
            arrays = backend.samples(cost)
            run(bench.device, backend, backend.forward, arrays)
            pending = _with_alarm(bench, lambda b=backend, a=arrays: launch(bench.device, b, b.forward, a))
            pending.wait()
        with torch.inference_mode(), HostReads() as reads:
            backend.forward(bench.device.stage(backend.collate(backend.samples(64))))
        bench.add(name, {"launches": "none waits" if bench.on_gpu else "no alarm on a CPU", "host_reads": reads.found})
        assert not reads.found, f"{name} reads from the device: {reads.found}"


def compile_(bench: Bench) -> None:
    """The image model as it is written, compiled by blocks and as a whole, and how much of the peak each reaches."""
    from torch.utils.flop_counter import FlopCounterMode

    backend = bench.loaded("images")
    inputs = bench.device.stage(backend.collate(backend.samples(1)))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backend.forward(inputs)
    flops, peak = counter.get_total_flops(), dense_peak(bench.device.choice.name, bench.dtype)
    bench.add("model", {"name": bench.images, "gflops_an_image": flops / 1e9, "peak_tflops": peak and peak / 1e12})

    def measure(how: str, prepare: Callable[[], Any]) -> None:
        started = time.perf_counter()
        forward = prepare()
        bench.add(f"{how}: compile_s", time.perf_counter() - started)
        for n in (32, 64, 128, 256) if bench.on_gpu else (2, 4):
            arrays = backend.samples(n)
            seconds = min(run(bench.device, backend, forward, arrays) for _ in range(RUNS + 1))
            mfu = flops * n / seconds / peak if peak else None
            bench.add(f"{how}: {n}", {"images_per_s": n / seconds, "mfu": mfu})

    measure("eager", lambda: backend.forward)
    blocks: list[compiled.Blocks | None] = []
    measure("by blocks", lambda: (blocks.append(compiled.by_blocks(bench.device, backend)), backend.forward)[1])
    assert blocks[0] is not None
    blocks[0].restore()
    measure("whole", lambda: compiled.whole(bench.device, backend))


def vectors(bench: Bench) -> None:
    """Cosines of the device's vectors with those of a CPU in fp32."""
    items = {"images": [encoded(photo(name), "PNG") for name in PHOTOS], "texts": texts(8, 1, 200)}
    for name, on_cpu in bench.backends().items():
        recipe, on_device = on_cpu.recipe(), bench.loaded(name)
        arrays = (
            [each.array for each in recipe.texts(items[name])]
            if name == "texts"
            else [recipe.image(data, 1 << 26).array for data in items[name]]
        )
        on_cpu.load(torch.device("cpu"), torch.float32)
        with torch.inference_mode():
            expected = on_cpu.forward(on_cpu.collate(arrays)).numpy()
        found = launch(bench.device, on_device, on_device.forward, arrays).wait()
        cosines = (expected * found).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
        bench.add(name, {"least_cosine": float(cosines.min()), "dtype": str(bench.dtype)})
        assert cosines.min() > 0.99, f"{name}: the device computes something else"


def beside(bench: Bench) -> None:
    """The host's time for a launch, alone and beside threads that prepare images."""
    backends = {name: bench.loaded(name) for name in bench.backends()}
    recipe, data = backends["images"].recipe(), encoded(photo(PHOTOS[0]), "JPEG", quality=85)
    over = threading.Event()

    def prepare() -> None:
        while not over.is_set():
            recipe.image(data, 1 << 26)

    threads = [threading.Thread(target=prepare, daemon=True) for _ in range(PREP_THREADS)]
    for how in ("alone", f"beside {PREP_THREADS} prep threads"):
        for name, backend in backends.items():
            cost = (64 if bench.on_gpu else 4) * (1 if name == "images" else 64)
            bench.add(f"{name}, {how}", {"host_ms": _spread(_launches(bench, backend, backend.samples(cost)))})
        if not threads[0].is_alive():
            for thread in threads:
                thread.start()
    over.set()
    for thread in threads:
        thread.join()


def memory(bench: Bench) -> None:
    """The memory that torch reserves while batches of ever new shapes run; flat after the first part."""
    chance, backends = random.Random(0), {name: bench.loaded(name) for name in bench.backends()}
    largest = {"images": 64 if bench.on_gpu else 4, "texts": 16384 if bench.on_gpu else 512}
    seconds = bench.options.seconds if bench.on_gpu else 5.0
    started, looks, batches = time.monotonic(), [], 0
    while (passed := time.monotonic() - started) < seconds:
        name = chance.choice([*backends])
        arrays = _odd(backends[name], chance, chance.randint(1, largest[name]))
        launch(bench.device, backends[name], backends[name].forward, arrays).wait()
        batches += 1
        if passed > len(looks) * seconds / LOOKS:
            held = torch.cuda.memory_reserved() if bench.on_gpu else bench.device.used_bytes()
            looks.append(held)
            bench.add("reserved_bytes", {"seconds": seconds, "batches": batches, "at_each_tenth": looks})


def _odd(backend: Backend, chance: random.Random, cost: int) -> list[NDArray[np.generic]]:
    arrays = backend.samples(cost)
    return arrays if backend.kind == "image" else [each[: chance.randint(1, len(each))] for each in arrays]


def _launches(bench: Bench, backend: Backend, arrays: list[NDArray[np.generic]]) -> list[float]:
    spent = []
    for _ in range(20 if bench.on_gpu else 5):
        started = time.perf_counter()
        pending = launch(bench.device, backend, backend.forward, arrays)
        spent.append(time.perf_counter() - started)
        pending.wait()
    return spent[1:]


def _with_alarm(bench: Bench, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the work returns
    if not bench.on_gpu:
        return work()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return work()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _spread(seconds: list[float]) -> dict[str, float]:
    found = np.array(seconds) * 1000
    return {"median": float(np.median(found)), "max": float(found.max()), "sum": float(found.sum())}


STEPS: Mapping[str, Callable[[Bench], None]] = {
    "attention": attention,
    "start": start,
    "sync": sync,
    "compile": compile_,
    "vectors": vectors,
    "beside": beside,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--image-model", default="EVA02-L-14", help="with random weights")
    parser.add_argument("--seconds", type=float, default=40.0, help="of the step memory; alone, 600 are worth it")
    minilm.add_option(parser)
    bench = Bench(parser.parse_args())
    try:
        STEPS[bench.options.step](bench)
    finally:
        bench.device.close()


if __name__ == "__main__":
    main()
