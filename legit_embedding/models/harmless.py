"""A harmless item, by which to find out whether a model works."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from legit_embedding.models.backend import Prepared, Recipe
    from legit_embedding.models.config import Kind

TEXT = "probe"
PIXELS = 64


def harmless_item(recipe: Recipe, kind: Kind) -> Prepared:
    """Prepare a short text or a grey image."""
    if kind == "text":
        return recipe.texts([TEXT])[0]
    file = io.BytesIO()
    Image.new("RGB", (PIXELS, PIXELS), (128, 128, 128)).save(file, "JPEG")
    return recipe.image(file.getvalue(), sys.maxsize)  # it grows to the model's size
