"""Fetching messages from a Redis broker and settling them, many per round trip and each one atomically."""
