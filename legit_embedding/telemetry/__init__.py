"""Who this worker is, and what it counts."""
