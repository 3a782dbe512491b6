"""The task stream as a source of tasks."""
