"""Makes ``gpubatch`` and its commands known to Celery, whether or not its command line has been imported yet."""

from __future__ import annotations

import sys

from celery import concurrency

from legit_embedding.pool import commands

POOL_NAME = "gpubatch"
POOL_CLASS = "legit_embedding.pool:TaskPool"


def register() -> None:
    """Add the pool's name to Celery's aliases and to the choices of ``--pool``, and its remote commands."""
    concurrency.ALIASES[POOL_NAME] = POOL_CLASS
    # The choices are frozen when celery.bin.worker is imported, which is before ``-A`` imports us.
    worker_command = sys.modules.get("celery.bin.worker")
    if worker_command is not None:
        worker_command.WORKERS_POOL.choices = concurrency.get_available_pool_names()
    remote_control = sys.modules.get("celery.worker.control")
    if remote_control is not None:
        commands.announce(remote_control)
