"""Memory that a prep thread and a child share, and the socket on which they take turns with it."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TURN = struct.Struct("<QQ")
"""The lengths of the header and of all the data behind it, in bytes."""
_HEAD = 8
_BEGUN = 0
KEPT = 4 << 20
"""The bytes of memory that a slot keeps between two items; what a larger one has touched is returned."""


class Slot:
    """One side of a slot. A request is written to the memory and announced on the socket; the answer takes its place.

    The memory is an anonymous file (``memfd_create``): it belongs to no file system, so a small ``/dev/shm`` is no
    limit, it counts as memory of the control group, and it is gone with the last process that has it open, however
    that ends. Only what is written to takes memory.

    Args:
        channel: the socket.
        memory: the anonymous file; closed when it is mapped.
        size: its size in bytes.
    """

    def __init__(self, channel: socket.socket, memory: int, size: int) -> None:
        self.channel = channel
        self._memory = mmap.mmap(memory, size)
        self._size = size
        os.close(memory)

    @classmethod
    def made(cls, room: int) -> tuple[Slot, tuple[int, int]]:
        """Make one side of a slot, and the descriptors of the other's socket and memory, for the caller to close.

        Args:
            room: the most bytes that a message may have.
        """
        size = _HEAD + room
        memory = os.memfd_create("legit-prep", os.MFD_CLOEXEC)
        os.ftruncate(memory, size)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours, os.dup(memory), size), (theirs.detach(), memory)

    @classmethod
    def received(cls, channel: int, memory: int) -> Slot:
        """The other side, from those descriptors."""
        return cls(socket.socket(fileno=channel), memory, os.fstat(memory).st_size)

    @property
    def has_begun(self) -> bool:
        """True if the child has begun with the last request, even if it is gone since."""
        return self._memory[_BEGUN] != 0

    def begin(self) -> None:
        """Note, for the case that this process ends, which request it was at."""
        self._memory[_BEGUN] = 1

    def put(self, header: bytes, parts: Sequence[bytes | memoryview]) -> bool:
        """Write a message, to be sent by `send`; False if it does not fit."""
        length = sum(len(part) for part in parts)
        if len(header) + length > self._size - _HEAD:
            return False
        self._turn = _TURN.pack(len(header), length)
        at = _HEAD
        for part in (header, *parts):
            self._memory[at : at + len(part)] = part
            at += len(part)
        return True

    def send(self) -> None:
        """Announce what was put.

        Raises:
            OSError: the other side is gone.
        """
        self.channel.send(self._turn, socket.MSG_NOSIGNAL)

    def ask(self) -> None:
        """Announce a request, which has not begun.

        Raises:
            OSError: the child is gone.
        """
        self._memory[_BEGUN] = 0
        self.send()

    def receive(self) -> tuple[bytes, bytes]:
        """Wait for a message: its header and its data.

        Raises:
            TimeoutError: there is none in the time that the socket was given.
            EOFError: the other side is gone, or its message makes no sense.
        """
        try:
            turn = self.channel.recv(_TURN.size)
        except TimeoutError:
            raise
        except OSError as error:
            raise EOFError from error
        if len(turn) != _TURN.size:
            raise EOFError
        header, data = _TURN.unpack(turn)
        if header + data > self._size - _HEAD:
            raise EOFError
        start = _HEAD + header
        found = self._memory[_HEAD:start], self._memory[start : start + data]
        if header + data > KEPT:
            self._memory.madvise(mmap.MADV_REMOVE)
        return found

    def close(self) -> None:
        """Let go of the socket and the memory."""
        self.channel.close()
        self._memory.close()
