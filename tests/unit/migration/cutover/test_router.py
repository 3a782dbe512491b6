"""Which queue Celery is told."""

from __future__ import annotations

import pytest

from legit_embedding.config import ModelConfig, Settings, TaskNames
from legit_embedding.migration.cutover.plan import Plan, Scope
from legit_embedding.migration.cutover.router import Cutover

TEXT, IMAGE = "legit_embedding.preparation.prepare_text", "legit_embedding.preparation.prepare_image"
BATCH = "legit_embedding.preparation.prepare_batch"
OLD, NEW = {"queue": "old"}, {"queue": "new"}


@pytest.fixture
def plan():
    return {"now": Plan()}


@pytest.fixture
def route(plan):
    return Cutover("old", "new", Settings(), lambda: plan["now"])


@pytest.mark.parametrize("name", [TEXT, IMAGE])
def test_a_share_of_the_tasks_goes_to_the_new_queue(route, plan, name):
    for share in (0, 5, 50, 100):
        plan["now"] = Plan(share=share)
        new = sum(route(name, ({"task_id": f"t{n}", "text": "x"},)) == NEW for n in range(2000))
        assert abs(new / 20 - share) < 2


def test_the_argument_may_have_a_name(route, plan):
    plan["now"] = Plan(share=50)
    for number in range(100):
        task = {"task_id": f"t{number}", "text": "x"}
        assert route(TEXT, (task,), {}) == route(TEXT, (), {"task": task}) == route(TEXT, None, {"task": task})


@pytest.mark.parametrize("args", [None, (), ([],), ("nonsense",), (None,), ({"text": "no id"},)])
def test_what_is_no_task_is_all_or_nothing_too(route, plan, args):
    assert route(TEXT, args) == OLD
    plan["now"] = Plan(share=100)
    assert route(TEXT, args) == NEW


def test_a_batch_goes_whole(route, plan):
    plan["now"] = Plan(share=50)
    first = {"task_id": "t1", "text": "x"}
    assert route(BATCH, ([first, {"task_id": "t2", "text": "y"}],)) == route(TEXT, (first,))


@pytest.mark.parametrize("name", ["shop.tasks.mail", "legit_embedding.embedding.embed_text", "celery.ping"])
def test_other_tasks_are_left_to_the_other_routes(route, plan, name):
    plan["now"] = Plan(share=100)
    assert route(name, ({"task_id": "t"},)) is None


def test_by_application(route, plan):
    plan["now"] = Plan().with_share(100, Scope(app="shop"))
    assert route(TEXT, ({"task_id": "t", "text": "x", "app": "shop"},)) == NEW
    assert route(TEXT, ({"task_id": "t", "text": "x"},)) == OLD


def test_by_model_also_where_a_task_names_none(route, plan):
    plan["now"] = Plan().with_share(100, Scope(model="minilm"))
    assert route(TEXT, ({"task_id": "t", "text": "x", "model": "minilm"},)) == NEW
    assert route(TEXT, ({"task_id": "t", "text": "x"},)) == NEW, "minilm is the settings' default for texts"
    assert route(IMAGE, ({"task_id": "t", "image_url": "x"},)) == OLD
    assert route(TEXT, ({"task_id": "t", "text": "x", "model": "e5"},)) == OLD


def test_the_settings_names_count():
    settings = Settings(
        task_names=TaskNames(prepare_text="shop.embed"), models={"m": ModelConfig(kind="text", backend="transformers")}
    )
    route = Cutover("old", "new", settings, lambda: Plan(share=100))
    assert route("shop.embed", ({"task_id": "t", "text": "x"},)) == NEW
    assert route(TEXT, ({"task_id": "t", "text": "x"},)) is None
