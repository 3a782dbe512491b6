"""The HTTP door: embeddings for clients that wait, and the worker's health and metrics (CONTRACT section 7)."""
