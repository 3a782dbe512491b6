"""The HTTP door under valid and hostile requests at once, and under clients that are slow on purpose."""
