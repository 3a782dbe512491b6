"""The HTTP door beside other servers of embeddings."""
