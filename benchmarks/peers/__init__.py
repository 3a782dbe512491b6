"""This worker among its peers: one corpus, one model, each peer in an environment of its own."""
