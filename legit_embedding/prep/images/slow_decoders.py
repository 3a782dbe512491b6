"""Decoders that can be slow, each in a process of its own that ends when its time is up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import BusyError, TaskError
from legit_embedding.prep.images.decoder import REQUEST
from legit_embedding.prep.images.opening import unpacked
from legit_embedding.prep.stage import MOST_STAND_INS, standing_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

PROCESSES = 4
_WAIT_S = 1.0
"""The time that a thread waits for a free process before the image is tried again later."""
_START_S = 30.0


class SlowDecoders:
    """A few processes, started when they are first needed and used again; safe to use from many threads.

    Args:
        budget_s: how long one image may take.
    """

    def __init__(self, budget_s: float = 5.0) -> None:
        self.budget_s = budget_s
        self.elsewhere = False
        """True in a process that leaves such images to the one that started it."""
        self._places = threading.BoundedSemaphore(PROCESSES)
        self._waiting = threading.BoundedSemaphore(MOST_STAND_INS - PROCESSES)
        self._idle: list[subprocess.Popen[bytes]] = []
        self._changing = threading.Lock()

    def decode(self, data: bytes, max_pixels: int) -> tuple[Image.Image, bool]:
        """Decode an image file; the second value says whether it was damaged and has been completed.

        Raises:
            BusyError: every process is busy with other images, or it is for another process to have some.
            TaskError: ``undecodable``, or ``too_large``: too many pixels, or more work than `budget_s`.
        """
        if self.elsewhere:
            raise BusyError(self.are_busy)
        with standing_aside(), self._place():
            return self._decoded(data, max_pixels)

    def are_busy(self) -> bool:
        """True if every process is decoding."""
        if not self._places.acquire(blocking=False):
            return True
        self._places.release()
        return False

    def close(self) -> None:
        """End the processes that nobody uses."""
        with self._changing:
            idle, self._idle = self._idle, []
        for process in idle:
            _end(process)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the processes; a few threads wait for one a little, so that what they have downloaded is not lost."""
        if not self._places.acquire(blocking=False):
            if not self._waiting.acquire(blocking=False):
                raise BusyError(self.are_busy)
            try:
                if not self._places.acquire(timeout=_WAIT_S):
                    raise BusyError(self.are_busy)
            finally:
                self._waiting.release()
        try:
            yield
        finally:
            self._places.release()

    def _decoded(self, data: bytes, max_pixels: int) -> tuple[Image.Image, bool]:
        with self._changing:
            process = self._idle.pop() if self._idle else None
        if process is not None and process.poll() is not None:
            _end(process)
            process = None
        if process is None:
            process = _started()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.budget_s, end)
        timer.daemon = True
        timer.start()
        try:
            fields, pixels = _asked(process, data, max_pixels, self.budget_s)
        except (OSError, ValueError) as error:
            _end(process)
            if late.is_set():
                detail = f"the image takes more than {self.budget_s:g} s to decode (fetch.decode_s)"
                raise TaskError("too_large", detail) from None
            # The process may have ended for another reason: only an image that ends every process is at fault.
            raise TaskError("undecodable", "the image ends the process that decodes it", transient=True) from error
        except BaseException:
            _end(process)
            raise
        finally:
            timer.cancel()
        with self._changing:
            self._idle.append(process)
        if "error" in fields:
            raise TaskError(fields["error"], fields["detail"])
        return unpacked(fields, pixels), bool(fields["repaired"])


def _started() -> subprocess.Popen[bytes]:
    # Its own session: a Ctrl-C at the terminal is the worker's to handle.
    process = subprocess.Popen(
        [sys.executable, "-m", "legit_embedding.prep.images.decoder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    timer = threading.Timer(_START_S, process.kill)
    timer.start()
    try:
        _asked(process, b"", 1, _START_S)  # starting up does not count as decoding
    except (OSError, ValueError) as error:
        _end(process)
        raise TaskError("model_failed", "the process that decodes images does not start", transient=True) from error
    finally:
        timer.cancel()
    return process


def _asked(
    process: subprocess.Popen[bytes], data: bytes, max_pixels: int, budget_s: float
) -> tuple[dict[str, Any], bytes]:
    requests, answers = process.stdin, process.stdout
    if requests is None or answers is None:
        raise ValueError("the process has no pipes")
    requests.write(REQUEST.pack(len(data), max_pixels, budget_s))
    requests.write(data)
    requests.flush()
    fields: dict[str, Any] = json.loads(answers.readline())
    length = int(fields.get("length", 0))
    pixels = answers.read(length)
    if len(pixels) != length:
        raise ValueError("the answer ends too early")
    return fields, pixels


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what is left in its buffer cannot be delivered
                continue


DECODERS = SlowDecoders()
"""The process's own."""
