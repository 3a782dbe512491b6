"""Batching engine: the loop that runs deliveries on one device."""
