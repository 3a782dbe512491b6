"""The device loop and what feeds it."""
