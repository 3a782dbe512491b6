"""``legit-embedding submit``."""
