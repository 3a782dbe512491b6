"""``legit-embedding dead``."""
