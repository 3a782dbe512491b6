"""The devices that batches run on."""
