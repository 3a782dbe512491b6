"""``legit-embedding embed``."""
