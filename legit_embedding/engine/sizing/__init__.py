"""Loading models, measuring them, and the batch sizes that follow."""
