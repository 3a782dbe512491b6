"""``legit-embedding streams``."""
