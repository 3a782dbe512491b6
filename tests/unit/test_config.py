from __future__ import annotations

import pytest

from legit_embedding.config import Settings, load_settings
from legit_embedding.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEGIT_CONFIG", raising=False)


def test_the_defaults_are_the_contracts():
    settings = load_settings()
    streams = settings.streams
    assert (streams.tasks, streams.group, streams.results) == (
        "embedding_tasks",
        "embedding_workers",
        "embedding_results",
    )
    assert (streams.dead_letter, streams.reply_to_allow) == ("embedding_tasks:dead", ("embedding_results*",))
    assert (streams.read_count, streams.block_ms, streams.claim_idle_ms, streams.max_deliveries) == (64, 2000, 60000, 5)
    assert (streams.result_maxlen, streams.delete_on_ack, streams.dedupe_s) == (1_000_000, True, 3600)
    assert str(settings.handoff_dir) == "/dev/shm/legit_embedding"
    assert settings.task_names.prepare_image == "legit_embedding.preparation.prepare_image"
    assert {model.kind for model in settings.models.values()} == {"image", "text"}


def test_a_file_in_the_working_directory_is_read_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / "legit.toml").write_text("redis_url = 'redis://file'\n[streams]\ngroup = 'file'\nread_count = 7\n")
    monkeypatch.setenv("LEGIT_STREAMS__GROUP", "environment")
    settings = load_settings()
    assert (settings.redis_url, settings.streams.group, settings.streams.read_count) == (
        "redis://file",
        "environment",
        7,
    )


def test_the_file_that_the_environment_names(monkeypatch, tmp_path):
    (tmp_path / "other.toml").write_text("worker_id = 'w-7'\n")
    monkeypatch.setenv("LEGIT_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().worker_id == "w-7"


def test_models_from_the_environment_alone(monkeypatch):
    monkeypatch.setenv("LEGIT_MODELS__MINE__KIND", "text")
    monkeypatch.setenv("LEGIT_MODELS__MINE__BACKEND", "transformers")
    monkeypatch.setenv("LEGIT_MODELS__MINE__WEIGHT", "2.5")
    assert load_settings().models["mine"].weight == 2.5


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("LEGIT_NOPE", "1", "LEGIT_NOPE"),
        ("LEGIT_STREAMS__NOPE", "1", "LEGIT_STREAMS__NOPE: there is no setting 'streams.nope'"),
        ("LEGIT_STREAMS__GRUOP", "1", "did you mean LEGIT_STREAMS__GROUP?"),
        ("LEGIT_HTTP_PORT", "8000", "did you mean LEGIT_HTTP__PORT?"),
        ("LEGIT_MODELS__MINILM__WIEGHT", "2", "did you mean LEGIT_MODELS__MINILM__WEIGHT?"),
        ("LEGIT_MODELS__X__WEIGHT", "2", "LEGIT_MODELS__X__WEIGHT: models.x.backend: Field required"),
        ("LEGIT_ENGINE__MEMORY_FRACTION", "7", "LEGIT_ENGINE__MEMORY_FRACTION: engine.memory_fraction: Input"),
        ("LEGIT_DEVICE", "gpu", "device"),
        ("LEGIT_MODELS__X__KIND", "sound", "models.x.kind"),
        ("LEGIT_STREAMS__RESULTS", "elsewhere", "streams.reply_to_allow"),
        ("LEGIT_STREAMS__ROUTES", "{not json", "LEGIT_STREAMS__ROUTES: streams.routes: "),
        ("LEGIT_CONFIG", "missing.toml", "LEGIT_CONFIG"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(monkeypatch, variable, value, named):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\nnope = 1", "legit.toml:2: nope: there is no such setting"),
        ("[streams]\ngruop = 1", "legit.toml:2: streams.gruop: there is no such setting; did you mean streams.group?"),
        ("[engine]\n\nmax_in_flight = 0", "legit.toml:3: engine.max_in_flight: Input should be greater than 0"),
        ("[models.x]\nkind = 'text'", "legit.toml:1: models.x.backend: Field required"),
        (
            "[streams]\nreply_to_allow = [\n'*',\n3,\n]",
            "legit.toml:2: streams.reply_to_allow.1: Input should be a valid",
        ),
        ("worker_id = 'a'\nnot toml", "legit.toml:2: Expected '=' after a key"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_line(tmp_path, text, problem):
    (tmp_path / "legit.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(problem)
    assert len(str(caught.value).splitlines()) == 1


def test_one_key_of_a_built_in_model_is_changed_and_the_rest_stays(monkeypatch, tmp_path):
    built_in = load_settings().models
    monkeypatch.setenv("LEGIT_MODELS__EVA02_L_14__WEIGHT", "2.5")
    (tmp_path / "legit.toml").write_text("[models.minilm]\nmax_batch = 7\n")
    changed = load_settings().models
    assert list(changed) == ["eva02-l-14", "minilm"]
    assert changed["eva02-l-14"] == built_in["eva02-l-14"].model_copy(update={"weight": 2.5})
    assert changed["minilm"] == built_in["minilm"].model_copy(update={"max_batch": 7})


def test_a_built_in_model_may_serve_other_kinds(monkeypatch):
    monkeypatch.setenv("LEGIT_MODELS__EVA02_L_14__KINDS", "image,text")
    monkeypatch.setenv("LEGIT_MODELS__EVA02_L_14__DEFAULT", "image")
    assert load_settings().models["eva02-l-14"].serves == ("image", "text")


def test_a_model_of_ones_own_replaces_the_built_in_ones(tmp_path):
    (tmp_path / "legit.toml").write_text("[models.mine]\nkind = 'text'\nbackend = 'transformers'\n[models.minilm]\n")
    assert list(load_settings().models) == ["mine", "minilm"]


def test_there_may_be_no_models():
    assert not Settings(models={}).models


def test_a_variable_changes_one_key_of_a_model_in_the_file(monkeypatch, tmp_path):
    (tmp_path / "legit.toml").write_text("[models.My-Clip]\nkind = 'image'\nbackend = 'open_clip'\nname = 'ViT-B-32'\n")
    monkeypatch.setenv("LEGIT_MODELS__MY_CLIP__WEIGHT", "3")
    (model,) = load_settings().models.values()
    assert (model.name, model.weight) == ("ViT-B-32", 3)


def test_two_defaults_of_one_kind_are_refused():
    model = {"kind": "text", "backend": "transformers", "default": True}
    with pytest.raises(ValueError, match="more than one default text model: a, b"):
        Settings(models={"a": model, "b": model})


def test_the_default_model_is_the_marked_or_the_only_one():
    model = {"kind": "text", "backend": "transformers"}
    assert Settings(models={"a": model}).default_model("text") == "a"
    assert Settings(models={"a": model, "b": model}).default_model("text") is None
    assert Settings(models={"a": model, "b": model | {"default": True}}).default_model("text") == "b"
    assert Settings(models={"a": model}).default_model("image") is None


@pytest.mark.parametrize(
    ("stream", "allowed"),
    [
        ("embedding_results", True),
        ("embedding_results:shop", True),
        ("sessions", False),
        ("embedding_results\n", False),
        ("embedding_results\x00", False),
        ("EMBEDDING_RESULTS", False),
    ],
)
def test_results_go_only_where_the_allow_list_says(stream, allowed):
    assert Settings().streams.allows(stream) is allowed
