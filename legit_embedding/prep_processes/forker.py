"""The process that children are forked from: it has the libraries and the recipes, one thread and no CUDA.

It is started afresh, not forked from the worker, which has threads. Its models' settings come on its standard input;
orders come on a socket, and reports go back on it. It ends, with all its children, when the worker closes the socket or
is gone.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from legit_embedding.errors import ConfigError, in_one_line
from legit_embedding.models.config import ModelConfig
from legit_embedding.prep_processes.child import serve
from legit_embedding.prep_processes.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from legit_embedding.models.backend import Recipe

MOST_FDS = 16
LONGEST_ORDER = 1 << 16
_OOM_SCORE = "500"
_PDEATHSIG = 1
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(number: int) -> None:
    """Make the recipes, and fork children until the worker is gone; `number` is the descriptor of the socket."""
    # A signal to the whole group or container is the worker's: it still needs its children for what it finishes.
    for each in _IGNORED:
        signal.signal(each, signal.SIG_IGN)
    control = socket.socket(fileno=number)
    _offer_to_the_oom_killer()
    try:
        recipes = _recipes(json.load(sys.stdin))
        if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
            message = f"the models' recipes start {threads - 1} threads, which a forked process would lack"
            raise ConfigError(message)  # noqa: TRY301
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker says so and does not start
        said = in_one_line(error, named=not isinstance(error, ConfigError))
        control.send(json.dumps({"failed": said}).encode())
        return
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": True}).encode())
    Forker(control, recipes).run()


class Forker:
    """Forks children, ends them, and reports those that have ended.

    Args:
        control: the socket to the worker.
        recipes: by the names of the models' queues.
    """

    def __init__(self, control: socket.socket, recipes: Mapping[str, Recipe]) -> None:
        self._control = control
        self._recipes = recipes
        self._children: dict[int, int] = {}  # by process id, the worker's number
        self._libc = ctypes.CDLL(None)

    def run(self) -> None:
        """Follow orders until the worker is gone."""
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            while True:
                ready, _, _ = select.select([self._control, reader], [], [])
                if reader in ready:
                    reader.recv(LONGEST_ORDER)
                    self._report_ended()
                if self._control in ready and not self._follow():
                    return
        finally:
            signal.set_wakeup_fd(-1)
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)

    def _follow(self) -> bool:
        """Follow an order; False if the worker is gone."""
        try:
            order, descriptors, _, _ = socket.recv_fds(self._control, LONGEST_ORDER, MOST_FDS)
        except OSError:
            return False
        if not order:
            return False
        fields: dict[str, Any] = json.loads(order)
        if "fork" in fields:
            self._fork(fields["fork"], descriptors)
        for pid, number in self._children.items():
            if number == fields.get("kill"):
                os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, number: int, descriptors: Sequence[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._be_child(parent, descriptors)
        for each in descriptors:
            os.close(each)
        self._children[pid] = number
        self._report(forked=number, pid=pid)

    def _be_child(self, parent: int, descriptors: Sequence[int]) -> NoReturn:
        """Serve, and end without running what belongs to the process that this was forked from."""
        status = 1
        try:
            self._libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                # Else the worker would not notice the end of the process that it speaks to.
                self._control.close()
                pairs = zip(descriptors[::2], descriptors[1::2], strict=True)
                serve([Slot.received(*pair) for pair in pairs], self._recipes)
                status = 0
        except BaseException as error:  # noqa: BLE001 - the process ends here
            sys.stderr.write(f"A prep process failed: {in_one_line(error)}\n")
        finally:
            os._exit(status)

    def _report_ended(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = self._children.pop(pid, None)
            if number is not None:
                self._report(ended=number, how=_described(os.waitstatus_to_exitcode(status)))

    def _report(self, **fields: object) -> None:
        try:
            self._control.send(json.dumps(fields).encode(), socket.MSG_NOSIGNAL)
        except OSError:
            return  # the worker is gone: the next look at the socket says so


def _recipes(models: Mapping[str, Any]) -> dict[str, Recipe]:
    import torch

    from legit_embedding.models.harmless import harmless_item
    from legit_embedding.models.registry import Registry
    from legit_embedding.prep.cuda_guard import forbid_cuda_in_process
    from legit_embedding.prep.images.slow_decoders import DECODERS

    torch.set_num_threads(1)
    forbid_cuda_in_process()
    DECODERS.elsewhere = True
    registry = Registry({name: ModelConfig.model_validate(fields) for name, fields in models.items()})
    recipes = {queue: registry.recipe(queue) for queue in registry.backends()}
    for queue, recipe in recipes.items():
        # What is imported or read at the first item is shared by all children then.
        harmless_item(recipe, registry.tower(queue).kind)
    return recipes


def _offer_to_the_oom_killer() -> None:
    """Where memory is short, the kernel is to end a child, which costs a retry, and not the worker."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    except OSError:
        return


def _described(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
