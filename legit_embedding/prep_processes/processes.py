"""The prep processes as prep threads see them: a call goes to one of them, and its result comes back."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from legit_embedding.errors import BusyError, ConfigError, TaskError, in_one_line
from legit_embedding.prep_processes.forking import Forking
from legit_embedding.prep_processes.messages import NotHereError, Request, read_answer
from legit_embedding.prep_processes.slot import Slot
from legit_embedding.redis_io.health import Outage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from legit_embedding.models.backend import Prepared
    from legit_embedding.models.config import ModelConfig

logger = logging.getLogger(__name__)

SLOTS = 2
"""The items that a child has at a time: while it is at one, the next is there already."""
ROOM = 1 << 20
"""The bytes that a message may have beyond the largest image file."""
LONGEST_S = 60.0
"""The time that a child may take for one call, in seconds; then it is ended."""
LOOK_S = 1.0
PAUSES_S = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
"""The pauses before a child is replaced, in seconds: for the first of those in a row that die young, the second, ...

Young is who has finished no item, and has not lived for `YOUNG_S`.
"""
YOUNG_S = 10.0
CLOSE_S = 5.0


class Child:
    """One child: its number, and the worker's sides of its slots."""

    def __init__(self, number: int, slots: list[Slot]) -> None:
        self.number = number
        self.pid = 0
        self.is_alive = True
        self.is_late = False
        self.has_worked = False
        self.free = slots
        self.slots = tuple(slots)
        self.born_at = time.monotonic()


class Place:
    """A place for one child: the present one, or when the next is due."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.due = 0.0
        self.deaths = 0

    def died(self) -> float:
        """Plan the next child; returns the pause before it, in seconds."""
        now = time.monotonic()
        if self.child is not None and (self.child.has_worked or now - self.child.born_at > YOUNG_S):
            self.deaths = 0  # it was an item's fault, or somebody's, and not the place's: others need it back
        pause = PAUSES_S[min(self.deaths, len(PAUSES_S) - 1)]
        self.due = now + pause
        self.deaths += 1
        self.child = None
        return pause


class PrepProcesses:
    """A number of children, forked from a process that was started for that; one that dies is replaced.

    A child that dies costs the item that it was at an attempt, as any transient error does; what it had not begun goes
    to another child unnoticed.

    Args:
        models: the settings of the models.
        count: how many children.
        max_bytes: the largest image file, in bytes.
    """

    def __init__(self, models: Mapping[str, ModelConfig], count: int, max_bytes: int) -> None:
        # A remote model's items are only packed, by the threads; so its token stays here too.
        self._models = {
            name: config.model_dump(mode="json", exclude_unset=True)
            for name, config in models.items()
            if not config.is_remote
        }
        self._room = max_bytes + ROOM
        self._places = [Place() for _ in range(count)]
        self._children: dict[int, Child] = {}
        self._numbers = 0
        self._changed = threading.Condition()
        self._closed = False
        self._forking: Forking | None = None
        self.deaths = 0
        """Children that have ended without being told to."""
        self.outage = Outage("the process that prep processes are forked from", "starting it again")
        self.thread = threading.Thread(target=self._keep_alive, name="prep-processes", daemon=True)

    def start(self) -> None:
        """Start the children; they take items when this returns.

        Raises:
            ConfigError: they cannot start.
        """
        if not hasattr(os, "memfd_create"):
            raise ConfigError("prep.processes: needs memfd_create, which this system lacks; 0 prepares in threads")
        self._forking = Forking(self._models)
        self._fork_due()
        self.thread.start()
        logger.info("%d prep processes, forked from process %d", len(self._places), self._forking.pid)

    def are_away(self) -> bool:
        """True if no child is there at this moment."""
        return not any(child.is_alive for child in list(self._children.values()))

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that are there."""
        return [child.pid for child in list(self._children.values()) if child.is_alive and child.pid]

    def call(self, request: Request) -> list[Prepared]:
        """Have a child call a recipe.

        Raises:
            TaskError: as the recipe raised it; transient if the child died meanwhile.
            NotHereError: the calling thread is to call its own recipe.
            BusyError: no child is there, or they are being ended.
            Exception: of the class that the recipe raised, by its name.
        """
        header, parts = request.packed()
        while True:
            child, slot = self._take()
            try:
                if not slot.put(header, parts):
                    raise NotHereError
                slot.ask()
                answer = self._await(child, slot)
            except (EOFError, OSError):
                self._lost(child)
                if self._closed:
                    raise BusyError(self._is_closed) from None
                if slot.has_begun:
                    raise _died(child, request) from None
            else:
                child.has_worked = True
                return read_answer(*answer)
            finally:
                self._release(child, slot)

    def close(self) -> None:
        """End the children at once; who waits for one gets a `BusyError`. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            forking = self._forking
        if forking is not None:
            forking.hang_up()
        if self.thread.is_alive():
            self.thread.join(CLOSE_S)
        elif forking is not None:
            forking.close()

    def _is_closed(self) -> bool:
        return self._closed

    def _take(self) -> tuple[Child, Slot]:
        """A free slot of the child with the most of them."""
        patience = time.monotonic() + LOOK_S
        with self._changed:
            while True:
                if self._closed:
                    raise BusyError(self._is_closed)
                child = max(self._children.values(), key=_free, default=None)
                if child is not None and _free(child):
                    return child, child.free.pop()
                if self.are_away() and time.monotonic() >= patience:
                    raise BusyError(self.are_away)
                self._changed.wait(LOOK_S)

    def _await(self, child: Child, slot: Slot) -> tuple[bytes, bytes]:
        """The answer, unless the child takes too long: then it is ended."""
        slot.channel.settimeout(LOOK_S)
        end, has_begun = time.monotonic() + SLOTS * LONGEST_S, False
        while True:
            try:
                return slot.receive()
            except TimeoutError:
                now = time.monotonic()
                if slot.has_begun and not has_begun:
                    end, has_begun = now + LONGEST_S, True
                elif now > end and self._forking is not None:
                    child.is_late = True
                    self._forking.order({"kill": child.number})

    def _release(self, child: Child, slot: Slot) -> None:
        with self._changed:
            if child.is_alive:
                child.free.append(slot)
                self._changed.notify()
            else:
                slot.close()

    def _lost(self, child: Child) -> None:
        """Give a child nothing more to do."""
        with self._changed:
            if not child.is_alive:
                return
            child.is_alive = False
            free, child.free = child.free, []
            self._changed.notify_all()
        for slot in free:
            slot.close()

    def _keep_alive(self) -> None:
        """Replace what dies, until it is all to end."""
        while not self._closed:
            try:
                self._turn()
            except EOFError:
                self._forker_ended()
            except Exception:
                logger.exception("Replacing prep processes failed; trying again")
                time.sleep(LOOK_S)
        with self._changed:
            forking = self._forking
        if forking is not None:
            forking.close()
        for child in list(self._children.values()):
            self._lost(child)

    def _turn(self) -> None:
        if self._forking is None:
            raise EOFError
        self._fork_due()
        dues = [place.due for place in self._places if place.child is None]
        report = self._forking.report(max(0.0, min(dues) - time.monotonic()) if dues else None)
        if report is None:
            return
        child = self._children.get(int(report.get("forked") or report["ended"]))
        if child is not None and "forked" in report:
            child.pid = report["pid"]
        elif child is not None:
            self._ended(child, str(report["how"]))

    def _fork_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.child is None and place.due <= now:
                self._fork(place)

    def _fork(self, place: Place) -> None:
        made = [Slot.made(self._room) for _ in range(SLOTS)]
        descriptors = [each for _, pair in made for each in pair]
        self._numbers += 1
        child = Child(self._numbers, [slot for slot, _ in made])
        try:
            if self._forking is not None:
                self._forking.order({"fork": child.number}, descriptors)
        finally:
            for each in descriptors:
                os.close(each)
        place.child = child
        with self._changed:
            self._children[child.number] = child
            self._changed.notify_all()

    def _ended(self, child: Child, how: str) -> None:
        self._lost(child)
        with self._changed:
            del self._children[child.number]
        self.deaths += 1
        place = next(place for place in self._places if place.child is child)
        logger.warning("Prep process %d ended: %s. It is replaced in %.2f s", child.pid, how, place.died())

    def _forker_ended(self) -> None:
        """Start the process that children are forked from again; they are gone with it."""
        if self._closed:
            return
        if self._forking is not None:
            self._forking.close()
            self._forking = None
            for child in list(self._children.values()):
                self._ended(child, "the process that it was forked from has ended")
        try:
            made = Forking(self._models)
        except (ConfigError, OSError) as error:
            self.outage.failed(in_one_line(error, named=False))
            with self._changed:
                self._changed.wait_for(self._is_closed, PAUSES_S[-1])
            return
        self.outage.over()
        with self._changed:
            self._forking = made
            if self._is_closed():
                made.hang_up()


def _free(child: Child) -> int:
    return len(child.free) if child.is_alive else 0


def _died(child: Child, request: Request) -> TaskError:
    if child.is_late:
        return TaskError("too_large", f"preparing the item takes more than {LONGEST_S:g} s")
    if request.image is not None:
        return TaskError("undecodable", "the image ends the process that decodes it", transient=True)
    return TaskError("model_failed", "the text ends the process that tokenises it", transient=True)
