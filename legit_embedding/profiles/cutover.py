"""A producer in the migration: each task goes to the old fleet or to the new worker, as one key in Redis says.

    app.config_from_object("legit_embedding.profiles.cutover")

`legit-embedding cutover` sets that key, and every producer follows within two seconds. The key is read from `redis_url`
of the worker's own settings (`LEGIT_REDIS_URL`). Until it is set, everything goes to the old fleet. See
docs/migration.md.
"""

from legit_embedding.migration.cutover.router import Cutover
from legit_embedding.profiles.legacy import *  # noqa: F403 - a profile is its names

task_routes = (Cutover(old_queue="legacy_prep", new_queue="embedding"),)

del Cutover
