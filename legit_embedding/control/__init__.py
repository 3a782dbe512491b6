"""Celery's remote commands on a worker with this pool."""
