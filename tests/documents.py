"""The documents, and the snippets in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


class Snippet(NamedTuple):
    """A fenced block."""

    document: str
    """Its path in the repository."""
    line: int
    language: str
    text: str


def snippets(document: Path) -> list[Snippet]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    path = document.relative_to(ROOT).as_posix()
    return [
        Snippet(path, text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in _FENCE.finditer(text)
    ]


def all_snippets(*languages: str) -> list[Snippet]:
    """The blocks of these languages in all documents."""
    return [each for document in DOCUMENTS for each in snippets(document) if each.language in languages]
