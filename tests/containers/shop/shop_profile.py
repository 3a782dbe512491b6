"""The image's profile with a task of the shop; messages of a worker that was killed come back soon."""

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

imports = ("shop",)
broker_transport_options = {"visibility_timeout": 5, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
