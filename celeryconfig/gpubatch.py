"""One process that does everything: `celery -A legit_embedding worker --pool=gpubatch`."""

from celeryconfig.base import *  # noqa: F403 - a profile is its names

worker_pool = "gpubatch"
