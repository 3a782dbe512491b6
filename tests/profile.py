"""The profile of the tests' workers: the default one, and the tests' ordinary tasks."""

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

imports = ("tests.tasks",)
