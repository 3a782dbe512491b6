"""Models and what they need: the registry and its backends."""
