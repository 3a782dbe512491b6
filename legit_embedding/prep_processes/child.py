"""One child: it answers the requests of its slots until the worker is gone."""

from __future__ import annotations

import selectors
import traceback
from typing import TYPE_CHECKING

from legit_embedding.errors import BusyError
from legit_embedding.prep_processes.messages import (
    LONGEST_TRACE,
    NotHereError,
    Request,
    pack_error,
    pack_items,
    pack_not_here,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from legit_embedding.models.backend import Prepared, Recipe
    from legit_embedding.prep_processes.slot import Slot


def serve(slots: Sequence[Slot], recipes: Mapping[str, Recipe]) -> None:
    """Answer one request after another; returns when the worker has closed a slot."""
    selector = selectors.DefaultSelector()
    for slot in slots:
        selector.register(slot.channel, selectors.EVENT_READ, slot)
    while True:
        for key, _ in selector.select():
            try:
                _answer(key.data, recipes)
            except (EOFError, OSError):
                return


def _answer(slot: Slot, recipes: Mapping[str, Recipe]) -> None:
    request = Request.unpacked(*slot.receive())
    slot.begin()
    try:
        fits = slot.put(*pack_items(_called(recipes[request.queue], request)))
    except (NotHereError, BusyError):  # also a decoder that can be slow: its processes are the worker's
        fits = False
    except BaseException as error:  # noqa: BLE001 - whatever a recipe raises is its item's
        fits = slot.put(pack_error(error, traceback.format_exc()[-LONGEST_TRACE:]), [])
    if not fits:
        slot.put(pack_not_here(), [])
    slot.send()


def _called(recipe: Recipe, request: Request) -> Sequence[Prepared]:
    if request.image is not None:
        return [recipe.image(request.image, request.max_pixels)]
    # Recipes of others may know no prompts.
    named = (request.prompts,) if any(request.prompts) else ()
    return recipe.texts(request.texts, *named)
