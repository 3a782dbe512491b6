from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from legit_embedding.errors import ConfigError
from tests.unit.models.test_transformers_pairs import CPU, registry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("config", "kinds", "reason"),
    [
        ({"model_type": "siglip2"}, ["image", "text"], "NaFlex.*use a SigLIP 2 of fixed resolution"),
        ({"model_type": "siglip2_vision_model"}, ["image"], "NaFlex.*use a SigLIP 2 of fixed resolution"),
        ({"model_type": "videomae"}, ["image"], "it embeds videos; embed single frames with an image model"),
        ({"model_type": "xclip"}, ["image", "text"], "it embeds videos; embed single frames with an image model"),
        ({"model_type": "clap"}, ["text"], "it embeds sound; .*use a text model on a transcript"),
        ({"model_type": "wav2vec2"}, ["text"], "it embeds sound; .*use a text model on a transcript"),
        ({"model_type": "whisper"}, ["text"], "it embeds sound; .*use a text model on a transcript"),
        (
            {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
            ["text"],
            "code lies beside its weights, and such code is never run here; use a model whose architecture",
        ),
        ({"model_type": "nothing-known"}, ["text"], "nothing-known"),
    ],
)
def test_what_cannot_be_used_says_so_in_one_sentence_and_what_to_use(
    tmp_path: Path, config: dict[str, Any], kinds: list[str], reason: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'executed')!r}).touch()\n")
    for queue in registry(tmp_path, *kinds, load=False).queues():
        backend = registry(tmp_path, *kinds, load=False)[queue]
        for use in (lambda made: made.recipe(), lambda made: made.load(CPU, torch.float32)):
            with pytest.raises(ConfigError, match=rf"^models\.m\.name: .*{reason}") as caught:
                use(backend)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
