"""Preparation, by a prep thread, of the jobs of one model that wait together."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from celery.utils.log import get_logger

from legit_embedding.errors import BusyError, TaskError
from legit_embedding.wire.task import HandOff, TaskObject, TokenIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from legit_embedding.models.backend import Prepared, Recipe
    from legit_embedding.pipeline.job import Job
    from legit_embedding.pipeline.protocols import Processor
    from legit_embedding.prep.content import ContentReader
    from legit_embedding.prep.handoff import HandOffDirectory

logger = get_logger(__name__)

RETRY_DELAYS_S = (0.5, 2.0)
"""Waits before the second and the third attempt at a transient error, in seconds."""
_DIGEST_BYTES = 16
TEXTS_AT_ONCE, MOST_TEXTS_AT_ONCE = 32, 256
"""The least and the most waiting texts that a prep thread tokenises together."""
TEXTS_S = 0.002
"""The time for which a prep thread takes more texts than the least, in seconds: the first of them wait for the last."""
LOOK_AGAIN_S = 0.5
"""Pause before a job that waits for a decoder is checked again, in seconds."""


def texts_at_once(each_s: float) -> int:
    """The number of texts to tokenise together, from the seconds that one has taken; 0 if that is not known yet."""
    return max(TEXTS_AT_ONCE, min(MOST_TEXTS_AT_ONCE, int(TEXTS_S / each_s))) if each_s else TEXTS_AT_ONCE


class Preparation:
    """Prepares jobs and passes each on to the processor, to a later attempt, or to its answer.

    Args:
        content: reads the content that a task refers to.
        handoffs: reads tensors prepared by another worker.
        recipe: returns a model's preparation recipe.
        processor: takes prepared items.
        retry: schedules a later attempt, after a delay in seconds.
        max_pixels: the largest permitted image, in pixels.
        prepared: called with a model, the time in seconds to prepare some items together, and their number.
    """

    def __init__(
        self,
        content: ContentReader,
        handoffs: HandOffDirectory,
        recipe: Callable[[str], Recipe],
        processor: Processor,
        retry: Callable[[str, Job, float], None],
        max_pixels: int,
        prepared: Callable[[str, float, int], None] = lambda _model, _seconds, _items: None,
    ) -> None:
        self._content = content
        self._handoffs = handoffs
        self._recipe = recipe
        self._processor = processor
        self._retry = retry
        self._max_pixels = max_pixels
        self._prepared = prepared

    def __call__(self, model: str, jobs: list[Job]) -> None:
        """Prepare jobs of one model. A failing job does not affect the others."""
        recipe = self._recipe(model)
        texts: list[tuple[Job, str]] = []
        for job in jobs:
            if isinstance(job.work, TaskObject) and job.work.text is not None:
                texts.append((job, job.work.text))
            else:
                self._one(job, recipe)
        if texts:
            self._texts(texts, recipe)

    def _one(self, job: Job, recipe: Recipe) -> None:
        started = time.monotonic()
        try:
            self._check(job)
            job.prepared = self._prepare(job, recipe)
        except Exception as error:  # noqa: BLE001 - whatever an item does, it costs itself only
            self._failed(job, error)
            return
        elapsed = time.monotonic() - started
        self._count(job.model, elapsed, 1)
        self._pass_on(job, elapsed)

    def _texts(self, texts: list[tuple[Job, str]], recipe: Recipe) -> None:
        started = time.monotonic()
        alive = [(job, text) for job, text in texts if self._still_wanted(job)]
        prompts = [job.work.prompt_name if isinstance(job.work, TaskObject) else None for job, _ in alive]
        try:
            # Recipes of others may know no prompts.
            named = (prompts,) if any(prompts) else ()
            prepared = recipe.texts([text for _, text in alive], *named)
            if len(prepared) != len(alive):
                message = f"the recipe made {len(prepared)} items of {len(alive)} texts"
                raise ValueError(message)  # noqa: TRY301 - as if the recipe had
        except Exception as error:  # noqa: BLE001
            self._split(alive, recipe, error)
            return
        elapsed = time.monotonic() - started
        if alive:
            self._count(alive[0][0].model, elapsed, len(alive))
        for (job, _), item in zip(alive, prepared, strict=True):
            job.prepared = item
            if recipe.max_tokens and item.cost > recipe.max_tokens:
                limit = f"text: more than the {recipe.max_tokens} tokens that the model takes, and overflow is refuse"
                self._failed(job, TaskError("too_large", limit))
            else:
                self._pass_on(job, elapsed)

    def _split(self, texts: list[tuple[Job, str]], recipe: Recipe, error: Exception) -> None:
        """Prepare texts one by one after a failure, so that only the text at fault fails."""
        if len(texts) == 1:
            self._failed(texts[0][0], error)
            return
        for one in texts:
            self._texts([one], recipe)

    def _prepare(self, job: Job, recipe: Recipe) -> Prepared:
        if isinstance(job.work, HandOff):
            prepared = recipe.handoff(self._handoffs.read(job.work.path, getattr(recipe, "check_handoff", None)))
            truncated = prepared.truncated or job.work.truncated
            return replace(prepared, truncated=truncated, repaired=job.work.repaired)
        if isinstance(job.work, TaskObject):
            return recipe.image(self._content.read(job.work), self._max_pixels)
        if isinstance(job.work, TokenIds):
            return _from_ids(job.work, recipe)
        message = f"nothing to prepare in {job.work!r}"
        raise TypeError(message)

    def _pass_on(self, job: Job, elapsed: float) -> None:
        job.prep_s += elapsed
        try:
            job.content = _digest(job.prepared)
            self._processor.submit(job)
        except TaskError as error:
            self._failed(job, error)
        except Exception as error:  # noqa: BLE001
            job.crashed("handing the item to the processor", error)

    def _count(self, model: str, elapsed: float, items: int) -> None:
        try:
            self._prepared(model, elapsed, items)
        except Exception:
            logger.exception("Counting what was prepared for %s failed", model)

    def _still_wanted(self, job: Job) -> bool:
        try:
            self._check(job)
        except Exception as error:  # noqa: BLE001
            self._failed(job, error)
            return False
        return True

    @staticmethod
    def _check(job: Job) -> None:
        if job.cancelled is not None:
            raise TaskError(job.cancelled, "the task was revoked before it was prepared")
        job.check_deadline()
        if job.held_up is not None and job.held_up():
            raise BusyError(job.held_up)

    def _failed(self, job: Job, error: Exception) -> None:
        if isinstance(error, BusyError):
            # Caused by another job, so not counted as an attempt; downloaded content is not kept while the job waits.
            job.held_up = error.held_up
            self._retry(job.model, job, LOOK_AGAIN_S)
        elif not isinstance(error, TaskError):
            job.crashed(f"preparing the item for {job.model}", error)
        elif error.transient and job.attempts < len(RETRY_DELAYS_S):
            job.attempts += 1
            self._retry(job.model, job, RETRY_DELAYS_S[job.attempts - 1])
        else:
            job.failed(error)


def _digest(prepared: Prepared) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in prepared.windows or (prepared,):
        digest.update(np.ascontiguousarray(part.array).data)
    return digest.digest()


def _from_ids(work: TokenIds, recipe: Recipe) -> Prepared:
    try:
        ids = np.array(work.token_ids, np.int64)
        return recipe.handoff(np.stack([ids, np.ones_like(ids)]))
    except OverflowError:
        raise TaskError("invalid_task", "token_ids: an id is beyond 64 bits") from None
    except TaskError as error:
        raise TaskError("invalid_task", f"token_ids: {error.detail}") from None


def give_back(jobs: Iterable[Job]) -> None:
    """Give jobs that were not started back to their sources."""
    for job in jobs:
        job.given_back()
