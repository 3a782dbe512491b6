"""Where the application's settings come from."""

from __future__ import annotations

import sys

import pytest

from legit_embedding.celery import make_app


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "a_profile_of_ours")
    monkeypatch.delitem(sys.modules, "a_profile_of_ours", raising=False)
    return tmp_path / "a_profile_of_ours.py"


def test_a_profile_wins_over_our_defaults(profile):
    profile.write_text("broker_url = 'amqp://broker//'\ntask_default_queue = 'photos'\n")
    conf = make_app().conf
    assert (conf.broker_url, conf.task_default_queue) == ("amqp://broker//", "photos")
    assert conf.result_backend.startswith("redis://"), "what it leaves out is ours"
    assert conf.accept_content == ["json"]


def test_our_defaults_win_over_celerys(profile):
    profile.write_text("")
    conf = make_app().conf
    assert (conf.task_default_queue, conf.broker_connection_max_retries) == ("embedding", None)


def test_the_environment_wins_over_the_profile(profile, monkeypatch):
    profile.write_text("broker_url = 'amqp://broker//'\n")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/3")
    assert make_app().conf.broker_url == "redis://elsewhere/3"
