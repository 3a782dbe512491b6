"""A recipe whose work is done by a prep process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding.prep_processes.messages import NotHereError, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.models.backend import Prepared, Recipe
    from legit_embedding.prep_processes.processes import PrepProcesses


class ProcessRecipe:
    """Has images decoded by a prep process, and texts tokenised there unless that is quick and without Python.

    What a process leaves, such as a file whose decoder can be slow, is prepared by the calling thread: so every item
    has the outcome that it has without processes.

    Args:
        recipe: the recipe as it is in this process.
        queue: its model's queue.
        processes: where it is called.
    """

    def __init__(self, recipe: Recipe, queue: str, processes: PrepProcesses) -> None:
        self._recipe = recipe
        self._queue = queue
        self._processes = processes
        # The `tokenizers` library leaves the interpreter to other threads, so a process would only cost the way there.
        self._sends_texts: bool = not getattr(recipe, "releases_gil", False)

    @property
    def max_tokens(self) -> int:
        """As the recipe's own."""
        return self._recipe.max_tokens

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        """Decode and transform one image file in a prep process."""
        try:
            (item,) = self._processes.call(Request(self._queue, data, max_pixels))
        except NotHereError:
            return self._recipe.image(data, max_pixels)
        return item

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        """Tokenise several texts at once."""
        # Recipes of others may know no prompts.
        named = (prompts,) if any(prompts) else ()
        if texts and self._sends_texts:
            try:
                return self._processes.call(Request(self._queue, None, texts=texts, prompts=prompts))
            except NotHereError:
                pass
        return self._recipe.texts(texts, *named)

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """As the recipe's own, if it has one."""
        check = getattr(self._recipe, "check_handoff", None)
        if check is not None:
            check(dtype, shape)

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """As the recipe's own."""
        return self._recipe.handoff(array)
