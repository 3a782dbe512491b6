"""Docstrings and one-line helps say what a thing is or does; they aren't questions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("legit_embedding", "benchmarks", "examples", "scripts", "celeryconfig")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
QUESTION = re.compile(r"(What|How|Whether)\b")


def prose(tree: ast.AST) -> list[str]:
    """The docstrings, those of attributes too, and the sentences that are given as values or arguments."""
    alone = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    given = [value for node in ast.walk(tree) if isinstance(node, ast.Call) for value in node.args]
    given += [word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords]
    texts = [node.value for node in [*alone, *given] if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text.strip() for text in texts]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_prose_begins_as_a_question(source: Path) -> None:
    found = prose(ast.parse(source.read_text(encoding="utf-8")))
    assert [text.splitlines()[0] for text in found if QUESTION.match(text)] == []
