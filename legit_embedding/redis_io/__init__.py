"""Connections to Redis-compatible servers."""
