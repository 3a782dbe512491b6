"""Whether two sets of results agree: read, spilt to disk by task id, paired, measured, judged."""
