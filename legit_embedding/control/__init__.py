"""Celery's remote commands on a worker with the ``gpubatch`` pool."""
