"""The commands that look at workers: ``top``, ``health`` and ``plan``."""
