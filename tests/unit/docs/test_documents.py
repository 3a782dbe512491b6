from __future__ import annotations

import re
from pathlib import Path

import pytest

from legit_embedding.errors import ERROR_CODES

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
FOLDERS = ("legit_embedding", "tests", "benchmarks", "celeryconfig", "examples")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
SOURCES = sorted(
    path for folder in ("legit_embedding", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
CITED_SECTION = re.compile(r"\bCONTRACT,? section (\d+)")
CITED_LAW = re.compile(r"\b[Ll]aw (\d+)\b")
NAMED_FILE = re.compile(r"`((?:[\w.]+/)*\w+\.(?:py|lua))`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def read(path):
    return path.read_text(encoding="utf-8")


def anchors(document):
    headings = HEADING.findall(FENCE.sub("", read(document)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_file(name):
    """Whether a file of this name, or with this end of a path, is in the repository."""
    return (ROOT / name).exists() or any(any((ROOT / folder).rglob(name)) for folder in FOLDERS)


def relative(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_relative_links_lead_somewhere(document):
    broken = []
    for target in LINK.findall(FENCE.sub("", read(document))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_the_indexes_name_every_document():
    indexes = sorted((ROOT / "docs").rglob("README.md"))
    named = {
        (index.parent / target.partition("#")[0]).resolve() for index in indexes for target in LINK.findall(read(index))
    }
    missing = [
        relative(page)
        for page in (ROOT / "docs").rglob("*.md")
        if page != ROOT / "docs" / "README.md" and page not in named
    ]
    assert not missing


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("[a-z]*.md")), ids=relative)
def test_a_page_says_first_who_needs_it(page):
    assert read(page).split("\n\n")[1].startswith("For ")


def test_every_error_code_is_explained_and_no_other():
    codes = re.findall(r"^\| `(\w+)` \|", read(REFERENCE / "errors.md"), re.MULTILINE)
    assert sorted(codes) == sorted(ERROR_CODES)


def test_the_contract_lists_every_error_code():
    section = read(REFERENCE / "contract.md").partition("## 5.")[2].partition("## 6.")[0]
    assert set(re.findall(r"`(\w+)`", section)) == ERROR_CODES


def test_what_the_code_cites_is_there():
    sections = set(re.findall(r"^## (\d+)\.", read(REFERENCE / "contract.md"), re.MULTILINE))
    laws = set(re.findall(r"^(\d+)\. \*\*", read(ROOT / "docs" / "architecture.md"), re.MULTILINE))
    cited = {path: read(path) for path in [*SOURCES, *DOCUMENTS]}
    wrong = {
        relative(path): found
        for path, text in cited.items()
        if (found := {*CITED_SECTION.findall(text)} - sections | {*CITED_LAW.findall(text)} - laws)
    }
    assert sections
    assert laws
    assert not wrong


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each.name != "CHANGELOG.md"], ids=relative)
def test_the_files_that_a_document_names_are_there(document):
    missing = [name for name in NAMED_FILE.findall(read(document)) if not is_file(name)]
    assert not missing
