"""A runnable prototype of each option; each file but `this_worker` runs in its own environment, from this folder."""
