"""Deployment profiles: plain Celery settings that an operator edits.

`CELERY_CONFIG_MODULE=celeryconfig.prep_only` (or `celery --config`) picks one; without it the worker uses this
package, which is `celeryconfig.gpubatch`. Settings left out here have the defaults of `legit_embedding.celery`.
"""

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

# A profile's names are Celery's settings, and the modules it is made of are not.
del base, gpubatch  # noqa: F821 - importing the profile has bound them
