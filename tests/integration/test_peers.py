"""The trial of the peers' benchmark, with a peer whose losses and doubles are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.peers.corpus import text_tasks
from benchmarks.peers.peers import OURS, Peer, Setup
from benchmarks.peers.trial import Trial
from tests import trivial_peer
from tests.servers import Server

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.trial import Accident


def accident(way: str, argument: str, url: str, folder: Path, tasks: int) -> Accident:
    peer = Peer("trivial", OURS, "redis", (trivial_peer.__file__, argument), way, ())
    trial = Trial.of(peer, Setup({"text": folder}, folder, 1), "text", url, folder / "peer")
    trial.quiet_s = 0.3
    with trial.process:
        found = trial.accident(text_tasks(["a text"] * tasks, "task"), share=1 / 2)
    assert not trial.process.running
    return found


def test_what_dies_with_a_process_is_lost_and_a_second_answer_is_doubled(tmp_path):
    found = accident("memory", "pipe", "", tmp_path, 8)
    assert (found.answered_before, found.lost, found.doubled) == (4, 4, 1)


def test_a_peer_that_is_started_again_is_counted_until_it_is_quiet(tmp_path):
    with Server("valkey", tmp_path / "server") as server:
        found = accident("stream", "stream", server.url, tmp_path, 6)
    assert (found.answered_before, found.lost, found.doubled) == (3, 1, 3)


def test_a_peer_that_ends_by_itself_is_an_error_with_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"the peer has ended:(?s:.*)KeyError: 'nonsense'"):
        accident("memory", "nonsense", "", tmp_path, 1)
