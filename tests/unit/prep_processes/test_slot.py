from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from legit_embedding.prep_processes.slot import KEPT, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOM = 96 << 20
"""More than a container's /dev/shm has."""


@pytest.fixture
def pair() -> Iterator[Callable[..., tuple[Slot, Slot, int]]]:
    """Makes the two sides of a slot, and the descriptor of their memory."""
    with ExitStack() as stack:

        def make(room: int = ROOM) -> tuple[Slot, Slot, int]:
            ours, (channel, memory) = Slot.made(room)
            stack.callback(os.close, memory)
            theirs = Slot.received(channel, os.dup(memory))
            stack.callback(ours.close)
            stack.callback(theirs.close)
            return ours, theirs, memory

        yield make


def test_there_and_back(pair):
    ours, theirs, _ = pair()
    assert ours.put(b"header", [b"some", memoryview(b"data")])
    ours.ask()
    assert not theirs.has_begun
    assert theirs.receive() == (b"header", b"somedata")
    theirs.begin()
    assert ours.has_begun
    assert theirs.put(b"answer", [])
    theirs.send()
    assert ours.receive() == (b"answer", b"")


def test_shared_memory_is_not_in_dev_shm_and_is_returned(pair):
    ours, theirs, memory = pair()
    assert os.fstat(memory).st_dev != Path("/dev/shm").stat().st_dev
    assert os.fstat(memory).st_blocks == 0, "room that is not used takes no memory"
    data = bytes(range(256)) * (80 << 12)
    assert ours.put(b"header", [data])
    ours.ask()
    assert os.fstat(memory).st_blocks * 512 >= len(data)
    assert theirs.receive() == (b"header", data)
    assert os.fstat(memory).st_blocks * 512 < KEPT


def test_what_does_not_fit_is_not_written(pair):
    ours, _, _ = pair(100)
    assert ours.put(b"12345", [bytes(95)])
    assert not ours.put(b"12345", [bytes(96)])


def test_the_end_of_the_other_side(pair):
    ours, theirs, _ = pair()
    theirs.begin()
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()
    assert ours.has_begun, "which is known when it is gone, too"
    assert ours.put(b"", [b""])
    with pytest.raises(OSError, match="pipe"):
        ours.send()


def test_a_message_that_makes_no_sense(pair):
    ours, theirs, _ = pair(100)
    theirs.channel.send(b"short")
    with pytest.raises(EOFError):
        ours.receive()
    theirs.channel.send((1 << 40).to_bytes(8, "little") * 2)
    with pytest.raises(EOFError):
        ours.receive()
