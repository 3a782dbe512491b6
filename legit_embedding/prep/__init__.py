"""From a task's content to arrays in memory, on the CPU only."""
