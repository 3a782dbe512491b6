"""The profile of the benchmarks' workers: Celery's own defaults, and the tests' ordinary tasks."""

imports = ("tests.tasks",)
