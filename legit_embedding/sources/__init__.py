"""Sources of tasks other than Celery."""
