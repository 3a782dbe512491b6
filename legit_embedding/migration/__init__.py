"""Migration from an old fleet to one worker: pre-flight checks, routing of tasks, and comparison of vectors."""
