"""Prep processes that die, hang, are killed or are closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from legit_embedding.errors import BusyError, ConfigError, TaskError
from legit_embedding.models.config import ModelConfig
from legit_embedding.models.null import NullRecipe
from legit_embedding.prep_processes import processes as module
from legit_embedding.prep_processes.processes import PrepProcesses, Request
from tests.deadly_model import HANG, KILL
from tests.waiting import wait_for
from tests.workers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLY = ModelConfig(kinds=("image", "text"), backend="tests.deadly_model:DeadlyModel")
IMAGE, TEXT = "deadly (image)", "deadly (text)"
MAX_BYTES = 1 << 20
WAIT_S = 60.0
STARTS_AND_HANGS = """
import sys, threading
from legit_embedding.models.config import ModelConfig
from legit_embedding.prep_processes.processes import PrepProcesses, Request
processes = PrepProcesses({"deadly": ModelConfig(kind="image", backend="tests.deadly_model:DeadlyModel")}, 2, 1000)
processes.start()
processes.call(Request("deadly", b"<hang>" + sys.argv[1].encode()))
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[PrepProcesses]:
    """One child, so that what waits, waits for it."""
    made = PrepProcesses({"deadly": DEADLY}, 1, MAX_BYTES)
    made.start()
    yield made
    made.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def hanging(path: Path) -> int:
    """The id of the process that has come to the item that names this file."""
    return int(wait_for(lambda: path.exists() and path.read_text(), WAIT_S, "the item to be reached"))


def are_gone(pids: list[int]) -> bool:
    return all(not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in pids)


def works(processes: PrepProcesses) -> bool:
    (item,) = processes.call(Request(IMAGE, b"file"))
    return bool((item.array == NullRecipe(0).image(b"file", 1).array).all())


def test_a_killed_one_costs_its_item_an_attempt_and_others_nothing(processes, threads, tmp_path):
    deaths = processes.deaths
    item = threads.submit(processes.call, Request(IMAGE, HANG + bytes(tmp_path / "pid")))
    pid = hanging(tmp_path / "pid")
    behind = [threads.submit(works, processes) for _ in range(5)]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TaskError, match="undecodable: the image ends the process that decodes it") as caught:
        item.result(WAIT_S)
    assert caught.value.transient
    assert [each.result(WAIT_S) for each in behind] == [True] * 5
    wait_for(lambda: processes.deaths == deaths + 1, WAIT_S, "the death to be counted")
    assert are_gone([pid])


def test_a_text_that_kills(processes):
    with pytest.raises(TaskError, match="model_failed: the text ends the process that tokenises it") as caught:
        processes.call(Request(TEXT, None, texts=["harmless", KILL.decode()]))
    assert caught.value.transient
    assert works(processes)


def test_signals_to_all_processes_leave_them(processes, threads, tmp_path):
    pid = wait_for(lambda: processes.pids, WAIT_S, "a child")[0]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(pid, number)
        os.kill(psutil.Process(pid).ppid(), number)
    assert os.getsid(pid) != os.getsid(0)
    assert works(processes)
    assert processes.pids == [pid]


def test_one_that_takes_too_long_is_ended(processes, threads, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_S", 0.2)
    item = threads.submit(processes.call, Request(IMAGE, HANG + bytes(tmp_path / "pid")))
    pid = hanging(tmp_path / "pid")
    with pytest.raises(TaskError, match="too_large: preparing the item takes more than") as caught:
        item.result(WAIT_S)
    assert not caught.value.transient
    monkeypatch.undo()
    assert works(processes)
    assert are_gone([pid])


def test_the_process_that_they_are_forked_from_is_started_again(processes, threads, tmp_path):
    item = threads.submit(processes.call, Request(IMAGE, HANG + bytes(tmp_path / "pid")))
    pid = hanging(tmp_path / "pid")
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    with pytest.raises(TaskError, match="the image ends the process"):
        item.result(WAIT_S)

    def again() -> bool:
        try:
            return works(processes)
        except BusyError:
            return False

    wait_for(again, WAIT_S, "a new child")
    wait_for(lambda: are_gone([pid]), WAIT_S, "the old child to be gone")
    assert processes.outage.health.ok
    assert processes.thread.is_alive()


def test_one_that_cannot_be_started_again_is_seen(threads, monkeypatch):
    made = PrepProcesses({"deadly": DEADLY}, 1, MAX_BYTES)
    made.start()
    pid = wait_for(lambda: made.pids, WAIT_S, "a child")[0]

    def fails(_models: object) -> None:
        raise ConfigError("prep.processes: no")

    monkeypatch.setattr(module, "Forking", fails)
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    wait_for(lambda: not made.outage.health.ok, WAIT_S, "the outage to be seen")
    assert made.outage.health.error == "prep.processes: no"
    with pytest.raises(BusyError) as caught:
        made.call(Request(IMAGE, b"file"))
    assert caught.value.held_up()
    made.close()
    assert not made.thread.is_alive()


def test_closing_ends_them_at_once(threads, tmp_path):
    made = PrepProcesses({"deadly": DEADLY}, 2, MAX_BYTES)
    made.start()
    wait_for(lambda: len(made.pids) == 2, WAIT_S, "the children")
    pids = [*made.pids, psutil.Process(made.pids[0]).ppid()]
    items = [threads.submit(made.call, Request(IMAGE, HANG + bytes(tmp_path / f"pid{n}"))) for n in range(2)]
    for number in range(2):
        hanging(tmp_path / f"pid{number}")
    behind = [threads.submit(made.call, Request(IMAGE, b"file")) for _ in range(4)]
    made.close()
    for each in (*items, *behind):
        with pytest.raises(BusyError):
            each.result(WAIT_S)
    wait_for(lambda: are_gone(pids), WAIT_S, "all processes to be gone")
    assert not made.thread.is_alive()
    made.close()


def test_a_killed_worker_leaves_none(tmp_path):
    worker = subprocess.Popen([sys.executable, "-c", STARTS_AND_HANGS, str(tmp_path / "pid")], cwd=ROOT)
    try:
        hanging(tmp_path / "pid")
        family = psutil.Process(worker.pid).children
        wait_for(lambda: len(family(recursive=True)) == 3, WAIT_S, "both children, and what they are forked from")
        left = [each.pid for each in family(recursive=True)]
    finally:
        worker.kill()
        worker.wait()
    wait_for(lambda: are_gone(left), WAIT_S, "the worker's processes to be gone")


def test_a_recipe_that_starts_a_thread_is_refused():
    model = ModelConfig(kind="image", backend=DEADLY.backend, options={"starts_thread": True})
    with pytest.raises(ConfigError, match=r"^prep\.processes: the models' recipes start 1 threads"):
        PrepProcesses({"deadly": model}, 1, MAX_BYTES).start()


def test_a_model_that_is_not_there_is_refused():
    model = ModelConfig(kind="image", backend="tests.nowhere:Model")
    with pytest.raises(ConfigError, match=r"^prep\.processes: models\.absent\.backend: cannot import"):
        PrepProcesses({"absent": model}, 1, MAX_BYTES).start()


def test_one_that_stands_still_is_ended(processes, threads, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_S", 0.1)
    pid = wait_for(lambda: processes.pids, WAIT_S, "a child")[0]
    os.kill(pid, signal.SIGSTOP)
    assert works(processes), "it had not begun with the item, which goes to the next one"
    assert processes.pids != [pid]


def test_the_pause_grows_with_those_that_die_without_having_worked():
    place = module.Place()

    def pause(*, has_worked: bool) -> float:
        place.child = module.Child(1, [])
        place.child.has_worked = has_worked
        return place.died()

    assert [pause(has_worked=False) for _ in range(8)] == pytest.approx([0, 0.25, 0.5, 1, 2, 5, 5, 5])
    assert pause(has_worked=True) == pytest.approx(0)
    assert pause(has_worked=False) == pytest.approx(0.25)


def test_without_processes_nothing_of_them_is_loaded():
    program = (
        "import sys\n"
        "from legit_embedding.config import Settings\n"
        "from legit_embedding.pipeline.pipeline import Pipeline\n"
        "pipeline = Pipeline(Settings(), 'pod', 2, redis=False)\n"
        "assert not [name for name in sys.modules if name.startswith('legit_embedding.prep_processes')]\n"
        "assert pipeline.stage._wanted == 2\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def test_many_threads_share_them(threads):
    made = PrepProcesses({"deadly": DEADLY}, 2, MAX_BYTES)
    made.start()
    wait_for(lambda: len(made.pids) == 2, WAIT_S, "the children")
    over = threading.Event()

    def calls() -> int:
        return sum(works(made) for _ in range(200))

    def kills() -> None:
        while not over.wait(0.05):
            for pid in made.pids[:1]:
                psutil.Process(pid).suspend()
                psutil.Process(pid).resume()

    disturbing = threads.submit(kills)
    try:
        assert [each.result(WAIT_S) for each in [threads.submit(calls) for _ in range(8)]] == [200] * 8
    finally:
        over.set()
        disturbing.result(WAIT_S)
        made.close()
    assert made.deaths == 0
