"""The pool under the name that it has everywhere, for ``app.Worker(pool="gpubatch")`` without any import before it.

Celery imports a pool's name that it does not know as a module; this one is the pool.
"""

import sys

from legit_embedding.pool import TaskPool

sys.modules[__name__] = TaskPool  # type: ignore[assignment]
