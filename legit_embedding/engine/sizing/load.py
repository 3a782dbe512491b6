"""Startup: loading, measuring and warming up the models."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.filesize import decimal

from legit_embedding.engine.sizing import compiled
from legit_embedding.engine.sizing.host_reads import HostReads
from legit_embedding.engine.sizing.noise import gathered
from legit_embedding.engine.sizing.profile import Compilation, in_units, make_plan, run, survey
from legit_embedding.engine.sizing.stopwatch import Stopwatch
from legit_embedding.engine.sizing.trial import compile_if_quicker
from legit_embedding.engine.sizing.weights import weights_bytes
from legit_embedding.errors import ConfigError, in_one_line
from legit_embedding.progress import logger as progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from legit_embedding.config import EngineConfig
    from legit_embedding.engine.device.base import Device, Forward, Tensors
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.sizing.profile import Plan
    from legit_embedding.models.backend import Backend

logger = logging.getLogger(__name__)

_FEW = {"image": 2, "text": 64}
"""Cost of the batch used to check for host reads."""


def prepare(device: Device, queues: Sequence[ModelQueue], config: EngineConfig, precision: str) -> None:
    """Load every model, then measure and warm up each with all of them in memory.

    Raises:
        ConfigError: a model does not load or does not work, with a one-line reason.
    """
    if config.compile is not False:
        compiled.keep_graphs(config.compile_cache)
    watches = [Stopwatch() for _ in queues]
    weights = [
        _load(device, queue, device.dtype(precision), watch) for queue, watch in zip(queues, watches, strict=True)
    ]
    budget = config.memory_fraction * device.free_bytes()
    for queue, weight, watch in zip(queues, weights, watches, strict=True):
        try:
            _open(device, queue, weight, budget, config, watch)
        except ConfigError:
            raise
        except Exception as error:
            message = f"models.{queue.name}: the model is loaded but does not work: {in_one_line(error)}"
            raise ConfigError(message) from error
    device.release_cache()


def check_memory(device: Device, queues: Iterable[ModelQueue], config: EngineConfig) -> None:
    """Adjust the ceilings to the free memory, which other programs may have reduced since the start."""
    budget = config.memory_fraction * device.free_bytes()
    for queue in queues:
        queue.ceiling.allow(queue.plan.bytes.reach(budget))


def _load(device: Device, queue: ModelQueue, dtype: torch.dtype, watch: Stopwatch) -> int:
    """Load one model and return the size of its weights in bytes."""
    before = device.used_bytes()
    try:
        progress.info("Loading %s", queue.name)
        with watch.measure("load"), gathered(queue.name):
            queue.backend.load(device.torch_device, dtype)
    except ConfigError:
        raise
    except Exception as error:
        message = f"models.{queue.backend.name}: the model cannot be loaded: {in_one_line(error)}"
        raise ConfigError(message) from error
    known = weights_bytes(queue.backend)
    # What the process has grown by includes what the libraries keep, so it is only a guess for a backend of one's own.
    return max(0, device.used_bytes() - before) if known is None else known


def _look_for_reads(device: Device, backend: Backend) -> None:
    """Warn if a model's forward pass synchronises with the device, which keeps the host from launching ahead."""
    reads = HostReads()

    def forward(inputs: Tensors) -> torch.Tensor:
        with reads:
            return backend.forward(inputs)

    run(device, backend, forward, backend.samples(_FEW[backend.kind]))
    if reads.found:
        logger.warning(
            "Model %s reads from the device in each forward pass (%s): the device waits for the host meanwhile",
            *(backend.name, ", ".join(sorted(set(reads.found)))),
        )


def _open(
    device: Device, queue: ModelQueue, weights: int, budget: float, config: EngineConfig, watch: Stopwatch
) -> None:
    backend, how = queue.backend, Compilation.NO
    forward: Forward = backend.forward
    if device.reads_block:
        _look_for_reads(device, backend)
    if config.compile is True:
        with watch.measure("compile"):
            forward, how = _compile_or_refuse(device, backend)
    with watch.measure("measure"):
        plan = _measure(device, queue, forward, weights, budget)
    if config.compile == "auto" and queue.kind == "image" and device.torch_device.type == "cuda":
        full = min(plan.target(), queue.max_batch or plan.target())
        with watch.measure("compile"):
            quicker = compile_if_quicker(device, backend, backend.samples(full))
        if quicker:
            how = Compilation.BY_BLOCKS
            with watch.measure("measure"):
                plan = _measure(device, queue, forward, weights, budget)
    plan = replace(plan, device=device.choice, compiled=how, start_s=watch.seconds)
    queue.forward = forward
    queue.open(plan)
    took = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in watch.seconds.items())
    progress.info(
        "Model %s is ready (%s of weights, %s): full batches of %s, limited by %s, compiled: %s",
        *(queue.name, decimal(weights), took, in_units(queue.kind, queue.target), plan.limited_by(), how),
    )


def _compile_or_refuse(device: Device, backend: Backend) -> tuple[Forward, Compilation]:
    try:
        return _compile(device, backend)
    except Exception as error:
        message = (
            f"engine.compile: the model {backend.name} cannot be compiled: {in_one_line(error)}. torch needs a C++ "
            "compiler (Debian's g++); engine.compile = false goes without"
        )
        raise ConfigError(message) from error


def _compile(device: Device, backend: Backend) -> tuple[Forward, Compilation]:
    """Compile a model by blocks if it is an image model that has any, otherwise as a whole."""
    if backend.kind == "image" and compiled.by_blocks(device, backend) is not None:
        return backend.forward, Compilation.BY_BLOCKS
    return compiled.whole(device, backend), Compilation.WHOLE


def _measure(device: Device, queue: ModelQueue, forward: Forward, weights: int, budget: float) -> Plan:
    points = survey(device, queue.backend, forward, budget)
    return make_plan(queue.name, queue.kind, weights, points, budget, queue.backend.samples(1)[0].nbytes)
