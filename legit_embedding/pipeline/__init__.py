"""The pipeline between a source and its answer: preparation, a processor and the sink."""
