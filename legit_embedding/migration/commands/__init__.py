"""The commands of a migration: ``compare``, ``cutover``, ``doctor`` and ``handoff``."""
