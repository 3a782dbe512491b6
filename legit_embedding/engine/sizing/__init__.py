"""Model loading, measurement and batch sizing."""
