"""The HTTP door keeps to its own OpenAPI document; ``scripts/http_contract`` has more models and more cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http_contract import CASES, TOKEN, check

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_answer_is_beyond_the_document(tmp_path: Path) -> None:
    outcome = check(CASES[0], TOKEN, tmp_path, examples=20)
    assert outcome.code == 0, outcome.output
    assert not outcome.cases.startswith(("no ", "0 "))
