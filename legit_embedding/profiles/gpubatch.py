"""One process that does everything: `celery -A legit_embedding worker --pool=gpubatch`."""

from legit_embedding.profiles.base import *  # noqa: F403 - a profile is its names

worker_pool = "gpubatch"
