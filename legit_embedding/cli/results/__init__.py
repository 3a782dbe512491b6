"""``legit-embedding tail`` and the files it writes."""
