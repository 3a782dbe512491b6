"""Connections to Redis: one address, read once, from which every client is made."""
