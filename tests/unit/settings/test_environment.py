from __future__ import annotations

from typing import Any

import pytest

from legit_embedding.config import Settings
from legit_embedding.errors import ConfigError
from legit_embedding.settings.environment import read, variable_of

NAMED = {"models": {"eva02-l-14": {}}, "streams": {"routes": {"my-shop": "embedding_results:shop"}}}


def decoded(variable: str, text: str) -> tuple[str, Any]:
    ((name, key, value),) = read({variable: text}, Settings, NAMED)
    assert name == variable
    return ".".join(key), value


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("LEGIT_REDIS_URL", "redis_url"),
        ("LEGIT_MODELS__EVA02_L_14__WEIGHT", "models.eva02-l-14.weight"),
        ("LEGIT_MODELS__EVA02-L-14__WEIGHT", "models.eva02-l-14.weight"),
        ("LEGIT_MODELS__MY_MODEL__WEIGHT", "models.my_model.weight"),
        ("LEGIT_STREAMS__ROUTES__MY_SHOP", "streams.routes.my-shop"),
        ("LEGIT_MODELS__X__OPTIONS__A__B", "models.x.options.a.b"),
    ],
)
def test_the_name_of_a_variable_is_a_path(variable: str, key: str) -> None:
    assert decoded(variable, "1") == (key, "1")


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("LEGIT_FETCH__ALLOW_PRIVATE", "host:8080", ["host:8080"]),
        ("LEGIT_FETCH__ALLOW_PRIVATE", "host:8080, other,", ["host:8080", "other"]),
        ("LEGIT_FETCH__ALLOW_PRIVATE", '["a,b"]', ["a,b"]),
        ("LEGIT_IMAGE_ROOTS", "/a,/b", ["/a", "/b"]),
        ("LEGIT_STREAMS__ROUTES", '{"shop": "s"}', {"shop": "s"}),
        ("LEGIT_MODELS__X__DEFAULT", "true", "true"),
        ("LEGIT_MODELS__X__DEFAULT", "image", ["image"]),
        ("LEGIT_WORKER_ID", "[pod]", "[pod]"),
        ("LEGIT_WORKER_ID", "a,b", "a,b"),
        ("LEGIT_MODELS__X__OPTIONS__A", "[1]", [1]),
    ],
)
def test_lists_take_commas_as_well_as_json(variable: str, text: str, value: object) -> None:
    assert decoded(variable, text)[1] == value


def test_a_table_comes_before_its_parts_whatever_the_order() -> None:
    given = {"LEGIT_STREAMS__GROUP": "g", "LEGIT_STREAMS": '{"group": "h", "tasks": "t"}'}
    assert [name for name, _, _ in read(given, Settings, {})] == ["LEGIT_STREAMS", "LEGIT_STREAMS__GROUP"]


def test_an_empty_variable_is_unset() -> None:
    assert list(read({"LEGIT_WORKER_ID": ""}, Settings, {})) == []


KUBERNETES = {
    "LEGIT_EMBEDDING_SERVICE_HOST": "10.0.0.1",
    "LEGIT_EMBEDDING_SERVICE_PORT": "8000",
    "LEGIT_EMBEDDING_SERVICE_PORT_HTTP_METRICS": "8000",
    "LEGIT_EMBEDDING_PORT": "tcp://10.0.0.1:8000",
    "LEGIT_EMBEDDING_PORT_6379_TCP": "tcp://10.0.0.1:6379",
    "LEGIT_EMBEDDING_PORT_6379_TCP_ADDR": "10.0.0.1",
    "LEGIT_EMBEDDING_PORT_6379_TCP_PORT": "6379",
    "LEGIT_EMBEDDING_PORT_6379_TCP_PROTO": "tcp",
    "LEGIT_PORT": "udp://10.0.0.1:53",
}


@pytest.mark.parametrize("variable", KUBERNETES)
def test_the_variables_of_a_service_are_ignored(variable: str) -> None:
    assert list(read({variable: KUBERNETES[variable]}, Settings, {})) == []


@pytest.mark.parametrize("variable", ["LEGIT_HTTP_PORT", "LEGIT_SERVICE_HOTS", "LEGIT_HTTP__PROT", "LEGIT_DEVICE__X"])
def test_a_typo_is_not_taken_for_one(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: there is no setting"):
        list(read({variable: "8000"}, Settings, {}))


def test_the_variable_of_a_key() -> None:
    assert variable_of("models.eva02-l-14.weight") == "LEGIT_MODELS__EVA02_L_14__WEIGHT"
