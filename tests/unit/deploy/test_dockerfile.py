"""What the Dockerfile promises, as far as it can be read; `./scripts/test-containers` runs the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

from legit_embedding.config import load_settings

TEXT = (Path(__file__).parents[3] / "Dockerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def of(instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.split()[0] == instruction]


def test_the_classic_builder_takes_it() -> None:
    assert not re.search(r"<<|^#\s*syntax|(RUN|COPY|ADD) --(mount|network|security|link|chmod)", TEXT, re.MULTILINE)


def test_torch_is_in_a_layer_that_only_the_constraints_and_its_index_change() -> None:
    before = LINES[: next(number for number, line in enumerate(LINES) if "torch torchvision" in line)]
    assert [line for line in before if line.startswith(("COPY", "ARG"))] == [
        *("COPY constraints.txt ./", 'ARG TORCH_INDEX=""')
    ]


def test_the_user_is_a_number_in_group_0() -> None:
    assert re.fullmatch(r"[1-9]\d*:0", of("USER")[-1])


def test_the_health_check_and_the_command_are_started_without_a_shell() -> None:
    [check] = of("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["legit-embedding", "health"]
    assert json.loads(of("CMD")[-1])[:4] == ["celery", "-A", "legit_embedding", "worker"]


def test_what_is_kept_is_in_the_cache_volume(monkeypatch) -> None:
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(of("ENV"))))
    assert of("VOLUME") == ["/cache"]
    assert variables["HF_HOME"].startswith("/cache/")
    monkeypatch.setenv("LEGIT_ENGINE__COMPILE_CACHE", variables["LEGIT_ENGINE__COMPILE_CACHE"])
    assert str(load_settings().engine.compile_cache).startswith("/cache/")
