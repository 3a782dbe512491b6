"""What `pip install` installs, in an environment and a folder without this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment: the wheel, and this environment's other packages."""
    pytest.importorskip("hatchling", reason="building the wheel offline needs hatchling: pip install -e .[test]")
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    subprocess.run(
        (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT), check=True, cwd=folder
    )
    venv.create(folder / "venv", with_pip=False)
    made = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    subprocess.run((*pip, "install", "--no-deps", "--target", packages, wheel), check=True)
    # Not as a site folder: the repository itself is on the path of this environment's.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


@pytest.fixture
def run(python: Path, tmp_path: Path) -> Callable[..., str]:
    def run(*arguments: str, **variables: str) -> str:
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        done = subprocess.run(
            [python, *arguments], env=kept | variables, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


CONF = "from legit_embedding.celery import app; print(app.conf.worker_pool, app.conf.task_default_queue, {})"
EVENTS = CONF.format("app.conf.worker_send_task_events")


def test_the_profiles_are_installed_and_events_are_on(run: Callable[..., str], tmp_path: Path) -> None:
    where = run("-c", "import legit_embedding; print(legit_embedding.__file__)").strip()
    assert not Path(where).is_relative_to(ROOT)
    assert run("-c", EVENTS).split() == ["gpubatch", "embedding", "True"]
    prep = run("-c", EVENTS, CELERY_CONFIG_MODULE="legit_embedding.profiles.prep_only")
    assert prep.split() == ["threads", "prep", "True"]
    producer = "from celery import Celery; app = Celery(); app.config_from_object({!r}); print(app.conf.task_routes)"
    assert "Cutover" in run("-c", producer.format("legit_embedding.profiles.cutover"))


def test_a_new_folder_has_profiles_of_its_own(run: Callable[..., str], tmp_path: Path) -> None:
    run("-m", "legit_embedding.cli", "init")
    with (tmp_path / "celeryconfig" / "base.py").open("a") as base:
        base.write('\ntask_default_queue = "mine"\n')
    assert run("-c", EVENTS).split() == ["gpubatch", "mine", "True"]
    assert run("-c", EVENTS, CELERY_CONFIG_MODULE="celeryconfig.prep_only").split() == ["threads", "prep", "True"]
    producer = "from celery import Celery; app = Celery(); app.config_from_object({!r}); print(app.conf.task_routes)"
    assert "Cutover" in run("-c", producer.format("celeryconfig.cutover"))


PAGE = "from legit_embedding.sources.http.site import FILES; print(*sorted(each.name for each in FILES.iterdir()))"


def test_the_page_is_installed(run: Callable[..., str]) -> None:
    folder = ROOT / "legit_embedding" / "sources" / "http" / "page"
    there = sorted(each.name for each in folder.iterdir())
    assert {"index.html", "page.css", "page.js"} <= set(there)
    assert run("-c", PAGE).split() == there
