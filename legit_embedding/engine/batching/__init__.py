"""Queues of waiting items, and the batches formed from them."""
