"""Everything between a source and its answer: a task's way through prep, a processor and the sink."""
