from __future__ import annotations

import pytest

from legit_embedding.models.harmless import PIXELS, harmless_item
from legit_embedding.models.recipes import ImageRecipe
from legit_embedding.prep.images.image import ImageTransform


@pytest.mark.parametrize("side", [PIXELS // 2, PIXELS, 224, 448])
def test_a_grey_image_fits_a_model_of_any_size(side: int) -> None:
    recipe = ImageRecipe(ImageTransform((side, side)).read, (side, side))
    assert harmless_item(recipe, "image").array.shape == (3, side, side)
