"""Worker identity, health, metrics, logs and traces."""
