"""The memory of two towers of one checkpoint, against the two halves of it loaded by two entries.

    python -m benchmarks.towers [ARCHITECTURE]

Each case is a process of its own on the CPU, in float32, with seeded random weights. What counts is the process's
resident memory when both towers have embedded something, and the most that it ever had.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import subprocess
import sys
from typing import Any

MEGABYTE = 1 << 20
NAME = "EVA02-B-16"


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else NAME
    if len(sys.argv) > 2:
        print(json.dumps(_measured(name, sys.argv[2])))
        return
    print(f"{name}: {'case':28} {'weights MB':>11} {'resident MB':>12} {'peak MB':>9}")
    for case in ("image", "text", "one entry", "two entries"):
        command = [sys.executable, "-m", "benchmarks.towers", name, case]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{'':{len(name) + 2}}{case:28} {found['weights']:11.0f} {found['resident']:12.0f} {found['peak']:9.0f}")


def _measured(name: str, case: str) -> dict[str, float]:
    import torch

    from legit_embedding.config import ModelConfig
    from legit_embedding.models.registry import Registry

    common = {"backend": "open_clip", "name": name, "pretrained": "random:1"}
    entries: dict[str, dict[str, dict[str, Any]]] = {
        "image": {"a": {"kind": "image"}},
        "text": {"a": {"kind": "text"}},
        "one entry": {"a": {"kinds": ["image", "text"]}},
        "two entries": {"a": {"kind": "image"}, "b": {"kind": "text"}},
    }
    models = {key: ModelConfig.model_validate(common | fields) for key, fields in entries[case].items()}
    backends = Registry(models).backends()
    before = _resident()
    for backend in backends.values():
        backend.load(torch.device("cpu"), torch.float32)
    for backend in backends.values():
        with torch.inference_mode():
            backend.forward(backend.collate(backend.samples(1)))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    weights = {
        parameter.data_ptr(): parameter.nbytes
        for backend in backends.values()
        for module in vars(backend).values()
        if isinstance(module, torch.nn.Module)
        for parameter in module.parameters()
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "weights": sum(weights.values()) / MEGABYTE,
        "resident": (_resident() - before) / MEGABYTE,
        "peak": (peak - before) / MEGABYTE,
    }


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
