"""``legit-embedding search``."""
