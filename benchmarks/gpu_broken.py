"""A device-side assert in a worker: how it ends, how soon, and where its messages are.

    python -m benchmarks.gpu_broken --device cuda:0 --json FILE

On a CPU, which has no such assert, one is pretended.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tests.clients import PREPARE_TEXT, Client
from tests.faulty_model import FaultyModel
from tests.servers import Server
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

BEFORE, AFTER = 100, 50
LIMIT_S = 120


class AssertingModel(FaultyModel):
    """Breaks the device for real where a text says so."""

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Embed, after the assert if there is one."""
        ids = inputs["input_ids"]
        marker = torch.tensor([*self.options.sticky.encode()], device=ids.device)
        if ids.is_cuda and ids.shape[1] >= len(marker) and bool((ids[:, : len(marker)] == marker).all(1).any()):
            table = torch.zeros(2, device=ids.device)
            return table[torch.full((len(ids), self.dim), 7, device=ids.device)]
        return super().forward(inputs)


def measure(device: str) -> dict[str, Any]:
    """Start a worker, break its device, and look."""
    on_gpu = device.startswith("cuda")
    model = {
        "kind": "text",
        "backend": "benchmarks.gpu_broken:AssertingModel" if on_gpu else "tests.faulty_model:FaultyModel",
        "max_batch": 8,
        "options": {"batch_s": 0.02},
    }
    args = () if on_gpu else ("-I", "tests.fragile_device")
    with tempfile.TemporaryDirectory() as folder, Server("valkey", Path(folder) / "server") as server:
        settings = {"device": device, "models": {"texts": model}}
        with Worker(server.url, Path(folder) / "worker", settings, args=args) as worker:
            worker.wait_ready(LIMIT_S)
            client = Client(server.url)
            texts = [f"text {n}" for n in range(BEFORE)] + ["<sticky>"] + ["late"] * AFTER
            started = time.monotonic()
            client.send_all((PREPARE_TEXT, {"task_id": str(n), "text": text}) for n, text in enumerate(texts))
            code = worker.wait(LIMIT_S)
            return {
                "exit_code": code,
                "seconds_until_exit": time.monotonic() - started,
                "sent": len(texts),
                "answered": len({entry["task_id"] for entry in client.entries()}),
                "back_in_the_queue": client.redis.llen("embedding"),
                "left_unacknowledged": client.redis.hlen("unacked"),
                "said": [line for line in worker.log.splitlines() if "CRITICAL" in line],
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found = measure(options.device)
    options.json.write_text(json.dumps(found, indent=2))
    print(json.dumps(found, indent=2))
    assert found["exit_code"] == 1, "it did not leave by itself"
    assert found["left_unacknowledged"] == 0
    assert found["answered"] + found["back_in_the_queue"] == found["sent"], "messages are lost"


if __name__ == "__main__":
    main()
