"""Model registry and backends."""
