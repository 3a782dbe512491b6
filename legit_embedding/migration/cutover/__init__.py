"""Which tasks go to the new worker, and copies of them."""
