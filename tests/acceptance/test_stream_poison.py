"""A task that kills its process at every try costs itself only, and can be brought back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.servers import available_kinds
from tests.soak import PATIENCE_S, TASKS, names
from tests.soak.fleet import CONFIG, DEAD_LETTER, Fleet
from tests.soak.tally import Outcomes, Row, entries, report
from tests.waiting import wait_for

MAX_DELIVERIES = 2 if TASKS <= 1000 else 5
"""Each is a process that has to start."""
FAULTY = {"kind": "text", "backend": "tests.faulty_model:FaultyModel"}
DEADLY = CONFIG | {
    "models": {"faulty": FAULTY},
    "streams": CONFIG["streams"] | {"max_deliveries": MAX_DELIVERIES},
}
REPAIRED = {"LEGIT_MODELS__FAULTY__OPTIONS__KILL": "<nothing>"}


@pytest.fixture(params=available_kinds())
def fleet(request, tmp_path):
    with Fleet(request.param, tmp_path, size=1, config=DEADLY) as fleet:
        yield fleet


def operate(worker, *arguments):
    command = [sys.executable, "-m", "legit_embedding.cli", *arguments, "--json"]
    env = os.environ | {"LEGIT_CONFIG": str(worker.directory / "legit.toml")}
    output = subprocess.run(command, env=env, check=True, capture_output=True, timeout=60).stdout
    return [json.loads(line) for line in output.splitlines()]


def test_a_task_that_kills_ends_in_the_dead_letter_and_comes_back(fleet):
    (worker,), began, deaths = fleet.workers, time.monotonic(), 0
    ids = names("good")
    fleet.add(ids[: TASKS // 2])
    fleet.add(["poison"], text="<kill>")
    fleet.add(ids[TASKS // 2 :])
    worker.start()

    def buried():
        nonlocal deaths
        if not worker.running:
            deaths += 1
            worker.start()
        return fleet.redis.xlen(DEAD_LETTER)

    wait_for(buried, PATIENCE_S, "the dead letter")
    wait_for(lambda: fleet.left() == 0, PATIENCE_S, "an empty task stream")
    first = Outcomes.read(fleet.redis)
    harm = f"{deaths} deaths, {fleet.redis.xlen(DEAD_LETTER)} in the dead letter"
    seconds = time.monotonic() - began
    row = Row("poison", fleet.name, TASKS + 1, len(first.ids), first.duplicates, harm, seconds, dict(first.workers))
    report(row)
    assert first.duplicates == 0
    assert first.ids.keys() == {*ids, "poison"}
    assert list(first.errors.values()) == ["dead_letter"]
    assert deaths == MAX_DELIVERIES
    ((dead),) = entries(fleet.redis, DEAD_LETTER)
    assert (dead["dead_reason"], dead["deliveries"]) == ("max_deliveries", str(MAX_DELIVERIES))
    assert first.errors.keys() == {dead["original_id"]}

    assert worker.stop() == 0
    (outcome,) = operate(worker, "dead", "requeue", "--all")
    assert outcome["problem"] is None
    assert (fleet.redis.xlen(DEAD_LETTER), fleet.left()) == (0, 1)
    with fleet.make("repaired", REPAIRED):
        wait_for(lambda: fleet.left() == 0, PATIENCE_S, "an empty task stream")
    answers = Outcomes.read(fleet.redis)
    assert answers.ids == first.ids + Counter(poison=1)
    assert outcome["new_id"] in answers.sources
    assert answers.errors == first.errors, "this time it is answered well"
