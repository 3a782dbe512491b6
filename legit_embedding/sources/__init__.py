"""What brings tasks besides Celery."""
