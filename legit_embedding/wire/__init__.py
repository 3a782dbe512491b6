"""The objects on the wire: what a producer sends and what a consumer reads."""
