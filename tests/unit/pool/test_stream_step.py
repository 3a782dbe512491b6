from __future__ import annotations

from types import SimpleNamespace

import pytest

from legit_embedding import process
from legit_embedding.pool import stream_step


@pytest.mark.parametrize(("is_running", "prep_only", "reads"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_the_stream_is_read_where_a_pipeline_embeds(
    monkeypatch: pytest.MonkeyPatch, is_running: bool, prep_only: bool, reads: int
) -> None:
    """Celery promises no order between this step and the one that starts a prep-only worker's pipeline."""
    sources: list[object] = []
    pipeline = SimpleNamespace(prep_only=prep_only, add_source=sources.append)
    monkeypatch.setattr(process, "is_running", lambda: is_running)
    monkeypatch.setattr(process, "current", lambda: pipeline)
    monkeypatch.setattr(stream_step, "stream_source", lambda _: object())
    stream_step.StreamStep(SimpleNamespace()).start(None)
    assert len(sources) == reads
