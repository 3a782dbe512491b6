"""The wire format: task objects sent by producers, and results read by consumers."""
