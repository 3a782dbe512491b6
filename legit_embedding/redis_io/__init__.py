"""Connections to Redis: the address is parsed once, and all clients are made from it."""
