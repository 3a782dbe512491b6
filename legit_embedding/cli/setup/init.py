"""``legit-embedding init``: a settings file and Celery profiles to edit."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import click

from legit_embedding.cli.setup.sample import settings_file

PROFILES = "legit_embedding.profiles"
COPY = "celeryconfig"
_MODULES = ("__init__", "base", "gpubatch", "prep_only", "legacy", "cutover")
_BASE = f"from {PROFILES}.base import *  # noqa: F403 - what is left out here follows the package\n"
_END_OF_DOCSTRING = re.compile(r'(?s)\A""".*?"""\n\n')


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def init(folder: Path, force: bool) -> None:
    """Write legit.toml and celeryconfig/ into FOLDER (by default this one), to be edited.

    Every setting is in legit.toml, commented out, with its meaning and default. The files in celeryconfig/ are Celery
    settings, one file per kind of worker or producer. Nothing is replaced without --force.
    """
    texts = {"legit.toml": settings_file()} | {f"{COPY}/{name}.py": profile(name) for name in _MODULES}
    there = [name for name in texts if (folder / name).exists()]
    if there and not force:
        message = f"{', '.join(there)} in {folder} would be replaced: nothing is written (--force replaces)"
        raise click.ClickException(message)
    (folder / COPY).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    where, then = ("this folder", "then") if folder == Path() else (folder, f"then, in {folder}")
    click.echo(f"Written to {where}: legit.toml, {COPY}/")
    click.echo(f"Edit them, {then}: celery -A legit_embedding worker --pool=gpubatch")


def profile(name: str) -> str:
    """The operator's copy of a profile."""
    text = files(PROFILES).joinpath(f"{name}.py").read_text(encoding="utf-8")
    if name == "base":
        return _END_OF_DOCSTRING.sub(lambda found: f"{found[0]}{_BASE}\n", text, count=1)
    return text.replace(PROFILES, COPY)
