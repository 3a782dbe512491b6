"""Devices that run batches."""
