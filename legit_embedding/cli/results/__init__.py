"""``legit-embedding tail`` and its output formats."""
