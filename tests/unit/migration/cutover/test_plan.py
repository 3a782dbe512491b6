"""What the document in Redis means for a task."""

from __future__ import annotations

import pytest

from legit_embedding.migration.cutover.plan import Plan, Scope
from legit_embedding.migration.cutover.share import Subject

HALF = Plan(share=50)


def test_the_default_moves_nothing():
    assert not any(Plan().moves(Subject(f"t{n}")) or Plan().copies(Subject(f"t{n}")) for n in range(1000))


@pytest.mark.parametrize(
    ("subject", "share"),
    [
        (Subject("t"), 50),
        (Subject("t", app="shop"), 10),
        (Subject("t", model="minilm"), 20),
        (Subject("t", app="shop", model="minilm"), 30),
        (Subject("t", app="shop", model="clip"), 10),
        (Subject("t", app="blog", model="minilm"), 20),
        (Subject("t", app="blog"), 50),
    ],
)
def test_the_rule_that_says_more_wins(subject, share):
    plan = HALF.with_share(10, Scope(app="shop")).with_share(20, Scope(model="minilm"))
    assert plan.with_share(30, Scope("shop", "minilm")).share_of(subject) == share


def test_a_rule_is_replaced_and_removed():
    plan = HALF.with_share(10, Scope(app="shop")).with_share(15, Scope(app="shop"))
    assert [rule.share for rule in plan.rules] == [15]
    assert plan.without_rule(Scope(app="shop")) == HALF
    assert plan.without_rule(Scope(app="blog")) == plan


def test_it_remembers_one_step():
    second = Plan(share=5).replacing(Plan(), 1.0)
    third = second.with_share(50).replacing(second, 2.0)
    assert third.before is not None
    assert (third.share, third.before.share, third.before.before, third.changed_at) == (50, 5, None, 2.0)


def test_it_survives_the_wire():
    plan = HALF.with_share(10, Scope("shop", "minilm")).with_shadow(5, "embedding_results:s").replacing(HALF, 1.5)
    assert Plan.parse(plan.model_dump_json(exclude_none=True)) == plan
    assert Plan.parse('{"share": 25, "of_a_later_version": true}') == Plan(share=25)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"share": 101}', '{"share": -1}', '{"share": "NaN"}', "null"])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError, match=r".+: .+"):
        Plan.parse(text)
