"""A producer of the old fleet: every task goes to the queue of its prep workers.

The profile before the migration, and the one to deploy for going back for good. `cutover` is built on it.
"""

from celeryconfig.base import *  # noqa: F403 - a profile is its names

task_default_queue = "legacy_prep"
