"""Comparison of two sets of results: read, spilt to disk by task id, paired, measured, judged."""
