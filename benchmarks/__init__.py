"""One command a benchmark: a table for people, JSON for programs, ratios from one run."""
