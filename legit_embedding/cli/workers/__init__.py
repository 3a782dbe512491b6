"""Commands about workers: ``top``, ``health``, ``plan`` and ``devices``."""
