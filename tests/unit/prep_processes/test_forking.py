from __future__ import annotations

from legit_embedding.prep_processes.forking import environment


def test_the_environment_has_no_credentials_of_ours_and_no_gpu():
    given = {
        "LEGIT_REDIS_URL": "redis://:secret@host",
        "CELERY_BROKER_URL": "redis://:secret@host",
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "8",
        "HF_HOME": "/models",
    }
    made = environment(given, ["/a", "/b"])
    assert "secret" not in str(made)
    assert made["CUDA_VISIBLE_DEVICES"] == ""
    assert made["OMP_NUM_THREADS"] == "1"
    assert made["HF_HOME"] == "/models"
    assert made["PYTHONPATH"] == "/a:/b"
