"""Where answers are written."""
