"""Deployment profiles: plain Celery settings.

`CELERY_CONFIG_MODULE=celeryconfig.prep_only` (or `celery --config`) picks one; without it the worker uses
`celeryconfig.gpubatch`, or `celeryconfig`, the copy to edit that `legit-embedding init` writes, where it
finds one. Settings left out here have the defaults of `legit_embedding.celery`.
"""

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

# A profile's names are Celery's settings, and the modules it is made of are not.
del base, gpubatch  # type: ignore[name-defined]  # noqa: F821 - importing the profile has bound them
