"""One Celery worker that turns images and text into vectors.

Importing the package makes the worker pool known to the stock ``celery`` command, so that

    celery -A legit_embedding worker --pool=gpubatch

works without any further registration. The Celery application itself is ``legit_embedding.celery:app``.
"""

from legit_embedding.pool.registration import register

__version__ = "0.1.0"

__all__ = ["__version__"]

register()
