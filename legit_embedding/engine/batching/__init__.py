"""Waiting items and the batches made of them."""
