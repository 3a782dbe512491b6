"""The snippets of the documents: read here, and run where a worker is."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from legit_embedding.cli import main
from legit_embedding.config import load_settings
from legit_embedding.wire.task import TaskObject
from tests.documents import DOCUMENTS, ROOT, Snippet, all_snippets

if TYPE_CHECKING:
    from pathlib import Path

RUN = {
    "README.md": "tests/acceptance/test_readme.py",
    "docs/http.md": "tests/acceptance/test_http.py",
    "docs/in-your-app.md": "tests/acceptance/test_in_your_app.py",
    "docs/migration.md": "tests/acceptance/test_migration.py",
    "docs/reference/contract.md": "tests/acceptance/test_readme.py",
    "docs/vectors.md": "tests/unit/docs/test_vectors.py",
}
"""The test that runs a document's programs."""
COMMAND = re.compile(
    r"(?:^ *\$ |^ {4})(?:[A-Z_]+=\S+ )*legit-embedding (.+)$|`legit-embedding ([a-z][^`…\\]*)`", re.MULTILINE
)
COMMANDS = sorted(
    {(each[1] or each[2], document.name) for document in DOCUMENTS for each in COMMAND.finditer(document.read_text())}
)


def place(snippet: Snippet) -> str:
    return f"{snippet.document}:{snippet.line}"


@pytest.mark.parametrize("snippet", all_snippets("toml"), ids=place)
def test_settings_are_settings(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "legit.toml"
    file.write_text(snippet.text, encoding="utf-8")
    monkeypatch.setenv("LEGIT_CONFIG", str(file))
    load_settings()


def test_tasks_are_tasks() -> None:
    lines = [line for each in all_snippets("json") for line in each.text.splitlines() if '"task_id"' in line]
    assert lines
    for line in lines:
        TaskObject.parse(json.loads(line.replace("…", "aGk=")))


@pytest.mark.parametrize(("line", "document"), COMMANDS)
def test_every_command_exists_and_takes_what_is_given(line: str, document: str) -> None:
    command, words = main, shlex.split(re.sub(r" *(#|[|>&]).*", "", line))
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    if words and not isinstance(command, click.Group):
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known | {"--help", "-h"}


def test_every_program_is_run_by_a_test() -> None:
    assert {each.document for each in all_snippets("python", "php", "bash")} == set(RUN)
    for document, test in RUN.items():
        assert document.rpartition("/")[2] in (ROOT / test).read_text(encoding="utf-8"), (
            f"{test} doesn't read {document}"
        )
