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
        ("LEGIT_STREAMS__NOPE", "1", "streams.nope"),
        ("LEGIT_ENGINE__MEMORY_FRACTION", "7", "engine.memory_fraction"),
        ("LEGIT_DEVICE", "gpu", "device"),
        ("LEGIT_MODELS__X__KIND", "sound", "models.x.kind"),
        ("LEGIT_STREAMS__RESULTS", "elsewhere", "streams.reply_to_allow"),
        ("LEGIT_STREAMS__ROUTES", "{not json", "streams"),
        ("LEGIT_CONFIG", "missing.toml", "LEGIT_CONFIG"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(monkeypatch, variable, value, named):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["nope = 1", "[streams]\nnope = 1", "not toml"])
def test_a_bad_file_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "legit.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert len(str(caught.value).splitlines()) == 1


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
