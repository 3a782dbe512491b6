"""Registers ``gpubatch`` and its commands with Celery, whether or not Celery's command line is imported yet."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from celery import concurrency, signals

from legit_embedding.control import commands
from legit_embedding.pool import default_concurrency

POOL_NAME = "gpubatch"
POOL_CLASS = "legit_embedding.pool:TaskPool"


def register() -> None:
    """Add the pool's name to Celery's aliases and to the choices of ``--pool``, and its remote commands."""
    concurrency.ALIASES[POOL_NAME] = POOL_CLASS
    signals.celeryd_init.connect(default_concurrency.choose)
    # The choices are fixed when celery.bin.worker is imported, which happens before ``-A`` imports this package.
    worker_command = sys.modules.get("celery.bin.worker")
    if worker_command is not None:
        pool_option = worker_command.WORKERS_POOL
        pool_option.choices = concurrency.get_available_pool_names()
        pool_option.convert = partial(_convert, pool_option.convert)
    remote_control = sys.modules.get("celery.worker.control")
    if remote_control is not None:
        commands.announce(remote_control)


def _convert(convert: Any, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401 - click's, which producers do not import
    """Convert the value of ``--pool`` to the pool to use.

    Celery treats an explicit ``prefork`` as its own default, and lets the profile's ``worker_pool`` win.
    """
    asked_for = ctx.get_parameter_source(param.name).name != "DEFAULT"
    if value == "prefork" and asked_for and ctx.obj.app.conf.worker_pool in {POOL_NAME, POOL_CLASS}:
        return concurrency.get_implementation(value)
    return convert(value, param, ctx)
