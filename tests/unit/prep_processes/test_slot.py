from __future__ import annotations

import os
from pathlib import Path

import pytest

from legit_embedding.prep_processes.slot import KEPT, Slot

ROOM = 96 << 20
"""More than a container's /dev/shm has."""


def pair(room: int = ROOM) -> tuple[Slot, Slot, int]:
    """The two sides, and the descriptor of their memory, to be closed."""
    ours, (channel, memory) = Slot.made(room)
    return ours, Slot.received(channel, os.dup(memory)), memory


def test_there_and_back():
    ours, theirs, memory = pair()
    os.close(memory)
    assert ours.put(b"header", [b"some", memoryview(b"data")])
    ours.ask()
    assert not theirs.has_begun
    assert theirs.receive() == (b"header", b"somedata")
    theirs.begin()
    assert ours.has_begun
    assert theirs.put(b"answer", [])
    theirs.send()
    assert ours.receive() == (b"answer", b"")


def test_shared_memory_is_not_in_dev_shm_and_is_returned():
    ours, theirs, memory = pair()
    assert os.fstat(memory).st_dev != Path("/dev/shm").stat().st_dev
    assert os.fstat(memory).st_blocks == 0, "room that is not used takes no memory"
    data = bytes(range(256)) * (80 << 12)
    assert ours.put(b"header", [data])
    ours.ask()
    assert os.fstat(memory).st_blocks * 512 >= len(data)
    assert theirs.receive() == (b"header", data)
    assert os.fstat(memory).st_blocks * 512 < KEPT
    os.close(memory)


def test_what_does_not_fit_is_not_written():
    ours, _, memory = pair(100)
    os.close(memory)
    assert ours.put(b"12345", [bytes(95)])
    assert not ours.put(b"12345", [bytes(96)])


def test_the_end_of_the_other_side():
    ours, theirs, memory = pair()
    os.close(memory)
    theirs.begin()
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()
    assert ours.has_begun, "which is known when it is gone, too"
    assert ours.put(b"", [b""])
    with pytest.raises(OSError, match="pipe"):
        ours.send()


def test_a_message_that_makes_no_sense():
    ours, theirs, memory = pair(100)
    os.close(memory)
    theirs.channel.send(b"short")
    with pytest.raises(EOFError):
        ours.receive()
    theirs.channel.send((1 << 40).to_bytes(8, "little") * 2)
    with pytest.raises(EOFError):
        ours.receive()
