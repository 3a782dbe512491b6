"""A worker without a device, which prepares items for one that has it.

    CELERY_CONFIG_MODULE=legit_embedding.profiles.prep_only celery -A legit_embedding worker --pool=threads -Q prep

It takes the same tasks, from the queue `prep`, and sends each on as a hand-off to the queue `embedding`. Both workers
need the same hand-off directory (`LEGIT_HANDOFF_DIR`), so they run on one host.
"""

from legit_embedding.profiles.base import *  # noqa: F403 - a profile is its names

worker_pool = "threads"
task_default_queue = "prep"
legit_handoff_queue = "embedding"
