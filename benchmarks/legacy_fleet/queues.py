"""The old fleet's queues."""

PREP_QUEUE = "legacy_prep"


def embed_queue(model: str) -> str:
    """Where the hand-offs for one model go."""
    return f"legacy_embed.{model}"
