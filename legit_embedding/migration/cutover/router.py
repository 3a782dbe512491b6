"""The task router of the ``cutover`` profile."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.signals import after_task_publish

from legit_embedding.config import get_settings
from legit_embedding.migration.cutover.copier import Copier
from legit_embedding.migration.cutover.outbox import app_of
from legit_embedding.migration.cutover.share import Subject
from legit_embedding.migration.cutover.store import LastKnown, PlanStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from legit_embedding.config import Settings
    from legit_embedding.migration.cutover.plan import Plan


class Cutover:
    """Sends each task to the old fleet's queue or to the new worker's, and copies some of the old fleet's tasks.

    An entry of Celery's ``task_routes``. Only the contract's ``prepare_*`` tasks are routed. A queue that the caller
    names itself wins.

    Args:
        old_queue: what the old prep workers consume.
        new_queue: what the new worker consumes.
        settings: whose ``task_names``, ``redis_url`` and default models count; the process's own unless given.
        plan: what says how much goes where; read from Redis unless given.
    """

    def __init__(
        self,
        old_queue: str,
        new_queue: str,
        settings: Settings | None = None,
        plan: Callable[[], Plan] | None = None,
    ) -> None:
        self.old_queue = old_queue
        self.new_queue = new_queue
        self._settings = settings or get_settings()
        self._plan = plan or LastKnown(PlanStore.at(self._settings.redis).read)
        self._copier = Copier(lambda: app_of(self), new_queue)
        after_task_publish.connect(self._published)

    def __repr__(self) -> str:
        return f"Cutover(old_queue={self.old_queue!r}, new_queue={self.new_queue!r})"

    def __call__(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,  # noqa: ARG002 - Celery's signature
        task: object = None,  # noqa: ARG002
    ) -> dict[str, str] | None:
        """Celery asks this for every message; None leaves the task to the other routes."""
        if name not in self._names:
            return None
        moves = self._plan().moves(self._subject(_argument(args, kwargs)))
        return {"queue": self.new_queue if moves else self.old_queue}

    @property
    def copier(self) -> Copier:
        """The sender of the copies."""
        return self._copier

    @cached_property
    def _names(self) -> frozenset[str]:
        names = self._settings.task_names
        return frozenset({names.prepare_image, names.prepare_text, names.prepare_batch})

    def _subject(self, argument: object) -> Subject:
        subject = Subject.of(argument)
        if subject.model is not None or not isinstance(argument, dict):
            return subject
        model = self._settings.default_model("text" if argument.get("text") is not None else "image")
        return Subject(subject.task_id, subject.app, model)

    def _published(self, sender: str, body: object, routing_key: str, headers: Mapping[str, Any], **_: object) -> None:
        """Copy a task that has just gone to the old fleet for the first time, if the plan says so."""
        if routing_key != self.old_queue or sender not in self._names or headers.get("retries"):
            return
        plan = self._plan()
        argument = _published_argument(body)
        if plan.copies(self._subject(argument)):
            self._copier.put(sender, argument, plan.shadow.stream)


def _argument(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> object:
    """The one argument of an embedding task, however it was given."""
    given = [*(args or ()), *(kwargs or {}).values()]
    return given[0] if given else None


def _published_argument(body: object) -> object:
    """The argument in a message of Celery's protocol 2, or 1."""
    if isinstance(body, dict):
        return _argument(body.get("args"), body.get("kwargs"))
    if isinstance(body, tuple | list):
        return _argument(*body[:2])
    return None
