"""docs/migration.md says what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from legit_embedding.cli import main

RUNBOOK = (Path(__file__).parents[3] / "docs" / "migration.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ +\$ legit-embedding (.+)$|`legit-embedding ([^`]+)`", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("line", sorted({shown or named for shown, named in COMMANDS}))
def test_every_command_exists_and_takes_what_is_given(line):
    command, words = main, shlex.split(line)
    context = click.Context(main)
    while isinstance(command, click.Group) and words:
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    if not isinstance(command, click.Group):
        command.make_context(line, words)


def test_every_step_has_its_way_back():
    steps = re.split(r"^## \d+\. ", RUNBOOK, flags=re.MULTILINE)[1:]
    assert len(steps) == 8
    assert all("**Way back" in step for step in steps)
