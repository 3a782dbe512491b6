"""Law 1, as the driver sees it: only the worker with the device loop has a CUDA context."""

from __future__ import annotations

import base64

import pytest
import torch

from tests.clients import PREPARE_IMAGE
from tests.images import encoded, photo
from tests.workers import Worker

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

MODELS = {"clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32-alt", "pretrained": "random:0"}}


def processes_with_a_context() -> set[int]:
    """What the driver lists for the first GPU; it may know processes by other numbers than this system does."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    finally:
        pynvml.nvmlShutdown()


def test_a_prep_only_worker_beside_a_device_worker_adds_no_context(redis_url, tmp_path, client):
    config = {"models": MODELS, "device": "cuda:0", "handoff_dir": str(tmp_path / "handoffs")}
    prep = ("-m", "celery", "-A", "legit_embedding", "worker", "--pool=threads", "-Q", "prep", "-n", "prep@%h")
    profile = {"CELERY_CONFIG_MODULE": "celeryconfig.prep_only"}
    image = base64.b64encode(encoded(photo("coffee.png"), "JPEG")).decode()
    before = processes_with_a_context()
    with (
        Worker(redis_url, tmp_path / "a", config) as device,
        Worker(redis_url, tmp_path / "b", config, command=prep, env=profile) as preparing,
    ):
        device.wait_ready()
        preparing.wait_ready()
        sent = [client.send(PREPARE_IMAGE, {"task_id": f"t{n}", "image_b64": image}, queue="prep") for n in range(8)]
        assert all(result.get(timeout=60)["status"] == "ok" for result in sent)
        both = processes_with_a_context() - before
        assert preparing.stop() == 0
        device_alone = processes_with_a_context() - before
    # Where the driver lists no processes at all (some containers), the law cannot be seen, and that is a failure too.
    assert len(device_alone) == 1
    assert both == device_alone
