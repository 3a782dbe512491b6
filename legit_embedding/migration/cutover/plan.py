"""The one document that says how far the migration is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from legit_embedding.errors import misfit

if TYPE_CHECKING:
    from typing import Self

    from legit_embedding.migration.cutover.share import Subject

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]

SHADOW_STREAM = "embedding_results:shadow"


class _Part(BaseModel):
    # Producers of another version read the same document.
    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Scope:
    """The tasks that a rule is about; what is None does not matter."""

    app: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        named = [f"{name} {value}" for name, value in (("app", self.app), ("model", self.model)) if value is not None]
        return ", ".join(named) or "all other tasks"


class Rule(_Part):
    """A share of its own for an application, a model, or one application's tasks for one model."""

    share: Percent
    app: str | None = None
    model: str | None = None

    @property
    def scope(self) -> Scope:
        """Whom the rule is about."""
        return Scope(self.app, self.model)

    def takes(self, subject: Subject) -> bool:
        """True if the rule is about this task."""
        return self.app in {None, subject.app} and self.model in {None, subject.model}

    def weight(self) -> int:
        """The rule that says more wins; between an application and a model, the application."""
        return 2 * (self.app is not None) + (self.model is not None)


class Shadow(_Part):
    """Copies for the new worker, while the old fleet stays in charge."""

    share: Percent = 0
    stream: str = SHADOW_STREAM


class Plan(_Part):
    """The shares that go to the new worker. The default sends it nothing."""

    share: Percent = 0
    rules: tuple[Rule, ...] = ()
    shadow: Shadow = Shadow()
    changed_at: float | None = None
    """Unix time of the last change."""
    before: Plan | None = None
    """The plan that the last change replaced."""

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read the document.

        Raises:
            ValueError: it is not one.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            where, why = misfit(error)
            message = f"{where or 'document'}: {why}"
            raise ValueError(message) from None

    def share_of(self, subject: Subject) -> float:
        """The share that counts for this task."""
        rules = [rule for rule in self.rules if rule.takes(subject)]
        return max(rules, key=Rule.weight).share if rules else self.share

    def moves(self, subject: Subject) -> bool:
        """True if this task goes to the new worker."""
        return subject.within(self.share_of(subject))

    def copies(self, subject: Subject) -> bool:
        """True if the new worker gets a copy of this task."""
        return subject.within(self.shadow.share, "shadow")

    def with_share(self, share: float, scope: Scope = Scope()) -> Plan:
        """This plan with another share for those tasks."""
        if scope == Scope():
            return self._with(share=share)
        return self._with(rules=(*self._others(scope), Rule(share=share, app=scope.app, model=scope.model)))

    def without_rule(self, scope: Scope) -> Plan:
        """This plan without the rule for those tasks; they follow the general share again."""
        return self._with(rules=self._others(scope))

    def with_shadow(self, share: float, stream: str) -> Plan:
        """This plan with another share of copies."""
        return self._with(shadow=Shadow(share=share, stream=stream))

    def replacing(self, before: Plan, at: float) -> Plan:
        """This plan, remembering the one that it replaces."""
        return self._with(before=before._with(before=None), changed_at=at)

    def _others(self, scope: Scope) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.scope != scope)

    def _with(self, **changes: Any) -> Plan:  # noqa: ANN401 - fields of all types
        return type(self).model_validate(dict(self) | changes)
