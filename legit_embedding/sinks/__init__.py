"""The sink: writing answers to their result streams."""
