"""The snippets of docs/vectors.md."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from legit_embedding.encoding import CODECS, decode_entry, encode_entry

PAGE = (Path(__file__).parents[3] / "docs" / "vectors.md").read_text(encoding="utf-8")
SECTIONS = {
    encoding: dict(re.findall(r"```(php|python)\n(.*?)```", text, re.DOTALL))
    for encoding, text in re.findall(
        r"^`(base64_\w+)`[^\n]*:\n(.*?)(?=^`base64_|^In Python)", PAGE, re.DOTALL | re.MULTILINE
    )
}
VECTOR = np.array([0.25, -1.5, 3.0e-6, 0.0, -0.001, 7.0, 0.3, -0.2, 0.9, -1e-4], np.float32)


def test_every_encoding_has_both_snippets():
    assert {encoding: set(snippets) for encoding, snippets in SECTIONS.items()} == {
        encoding: {"php", "python"} for encoding in CODECS
    }


@pytest.mark.parametrize("encoding", CODECS)
def test_numpy_reads_it(encoding):
    entry = encode_entry(VECTOR, encoding)
    names = {"np": np, "base64": base64, "entry": entry}
    exec(SECTIONS[encoding]["python"], names)
    assert np.array_equal(names["vector"], decode_entry(entry))


@pytest.mark.skipif(shutil.which("php") is None, reason="no php on the PATH")
@pytest.mark.parametrize("encoding", CODECS)
def test_php_reads_it(encoding):
    entry = encode_entry(VECTOR, encoding)
    code = f"$entry = json_decode($argv[1], true); {SECTIONS[encoding]['php']} echo json_encode($vector);"
    run = subprocess.run(["php", "-r", code, json.dumps(entry)], check=True, capture_output=True, text=True)
    assert np.array_equal(np.array(json.loads(run.stdout), np.float32), decode_entry(entry))
