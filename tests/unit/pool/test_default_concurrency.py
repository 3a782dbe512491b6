"""The default of -c is the number of cores that the process may use; what an operator says wins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WORKER = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.cpu_count = lambda: 7  # the host's, which Celery asks
from celery import Celery
import legit_embedding
app = Celery("x", broker="memory://")
app.conf.worker_concurrency = CONFIGURED
print(app.Worker(pool="POOL", concurrency=GIVEN).concurrency)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
@pytest.mark.parametrize(
    ("pool", "given", "configured", "expected"),
    [
        ("gpubatch", None, None, 1),
        ("gpubatch", 3, None, 3),
        ("gpubatch", None, 4, 4),
        ("gpubatch", None, "5", 5),
        ("threads", None, None, 7),
    ],
)
def test_the_host_is_not_counted(pool: str, given: int | None, configured: int | str | None, expected: int) -> None:
    script = WORKER.replace("POOL", pool).replace("GIVEN", repr(given)).replace("CONFIGURED", repr(configured))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(expected), done.stderr
