from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import legit_embedding

NAMES = {
    "Backend",
    "Caller",
    "Prepared",
    "Processor",
    "Recipe",
    "Source",
    "StreamConfig",
    "TaskObject",
    "__version__",
    "decode_embedding",
    "decode_entry",
    "encode_embedding",
    "encode_entry",
}
HEAVY = ("torch", "transformers", "open_clip", "numpy", "pydantic", "redis", "celery.worker", "celery.bin.worker")


def loaded_after(code):
    report = f"import sys\n{code}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", report], check=True, capture_output=True, text=True).stdout.split()


def test_the_public_names_are_these():
    assert set(legit_embedding.__all__) == NAMES
    assert set(dir(legit_embedding)) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_public_name_is_there_and_documented(name):
    value = getattr(legit_embedding, name)
    assert name == "__version__" or value.__doc__
    assert getattr(legit_embedding, name) is value


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'legit_embedding' has no attribute 'Nothing'"):
        _ = legit_embedding.Nothing


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_after("import legit_embedding") == []


def test_the_public_names_do_not_import_torch():
    uses = "\n".join(f"legit_embedding.{name}" for name in sorted(NAMES))
    assert not {"torch", "transformers", "open_clip", "celery.worker"} & set(
        loaded_after(f"import legit_embedding\n{uses}")
    )


def test_a_vector_survives_its_encoding():
    vector = np.array([0.25, -1.5, 3.0], np.float32)
    encoded = legit_embedding.encode_embedding(vector)
    assert legit_embedding.decode_embedding(encoded).tolist() == vector.tolist()
