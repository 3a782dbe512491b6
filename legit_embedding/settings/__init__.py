"""Reading settings: what the file and the environment say, and where they say it."""
