"""Preparation of items for a remote model: nothing is tokenised or decoded, each becomes the JSON that is sent."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from legit_embedding.errors import TaskError
from legit_embedding.models.backend import Prepared
from legit_embedding.prep.images.header import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from legit_embedding.models.prompts import Prompts


@dataclass(frozen=True, slots=True)
class RemoteItem(Prepared):
    """Item whose `array` is the UTF-8 of a JSON string: the text, or the image file as a data URL. Its cost is 1."""

    prompt_name: str | None = None
    """Prompt that the remote is to apply."""


class RemoteRecipe:
    """Recipe of a remote model.

    Args:
        prompts: the prompts that are applied here.
        default_prompt: the name of the prompt of tasks that name none, where the remote applies it.
        sends_prompts: whether the remote is told a prompt's name, instead of a prompt being applied here.
    """

    max_tokens = 0

    def __init__(self, prompts: Prompts, default_prompt: str | None, *, sends_prompts: bool) -> None:
        self._prompts = prompts
        self._default_prompt = default_prompt
        self._sends_prompts = sends_prompts

    def image(self, data: bytes, max_pixels: int) -> Prepared:
        """Check the image's header, and keep the file as it came.

        Raises:
            TaskError: ``undecodable``, or ``too_large`` beyond `max_pixels`.
        """
        kind = open_image(data, max_pixels).format or ""
        head = f'"data:{Image.MIME.get(kind, "application/octet-stream")};base64,'
        return RemoteItem(_array(head.encode() + b64encode(data) + b'"'), cost=1)

    def texts(self, texts: Sequence[str], prompts: Sequence[str | None] = ()) -> list[Prepared]:
        """Put each text's prompt before it, or note the prompt's name for the remote.

        Raises:
            TaskError: ``invalid_task`` if the model lacks one of the prompts.
        """
        return [self._text(text, prompt) for text, prompt in zip(texts, prompts or [None] * len(texts), strict=True)]

    def check_handoff(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Refuse every hand-off."""
        raise TaskError("handoff_refused", f"the model is remote and takes no tensor of {dtype} {list(shape)}")

    def handoff(self, array: NDArray[np.generic]) -> Prepared:
        """Refuse every hand-off."""
        self.check_handoff(array.dtype, array.shape)
        raise AssertionError

    def _text(self, text: str, prompt: str | None) -> Prepared:
        name = (prompt or self._default_prompt or None) if self._sends_prompts else None
        prefix = "" if self._sends_prompts else self._prompts.text(prompt)
        return RemoteItem(_array(json.dumps(prefix + text).encode()), cost=1, prompt_name=name)


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
