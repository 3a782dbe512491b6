"""Valid and hostile requests in one stream, in random order, to one real server."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from tests.http_soak import hostile, valid
from tests.servers import free_port
from tests.soak.memory import Reading, reading
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVE = ("-m", "legit_embedding.cli", "serve")
NOWHERE = "redis://127.0.0.1:1/0"
SEED = 20_261_126
AT_ONCE = 16
HOSTILE_SHARE = 0.3
READINGS = 60
PATIENCE_S = 120
HTTP: dict[str, Any] = {
    "token": hostile.TOKEN,
    "max_body_bytes": hostile.BODY_LIMIT,
    "max_text_chars": hostile.TEXT_LIMIT,
}


@dataclass
class Report:
    """All answers of a run."""

    valid: dict[str, valid.Tally] = field(default_factory=lambda: defaultdict(valid.Tally))
    hostile: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    readings: list[Reading] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What should not have been, a sentence each."""

    @property
    def right(self) -> tuple[int, int]:
        """The valid requests with the right vectors, and all of them."""
        return sum(each.right for each in self.valid.values()), sum(each.sent for each in self.valid.values())

    @property
    def refused(self) -> int:
        """How many hostile requests were sent."""
        return sum(each.total() for each in self.hostile.values())


class Mixed:
    """Sends the requests.

    Args:
        port: the server's.
        content: what valid requests carry.
    """

    def __init__(self, port: int, content: valid.Content) -> None:
        self._port = port
        self._content = content
        self._report = Report()

    async def run(self, requests: int, process: psutil.Process) -> Report:
        """Send this many requests, a tenth more before to warm up, and watch the server's process."""
        dice = random.Random(SEED)
        chunk = max(AT_ONCE, requests // READINGS)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE_S) as client:
            client.headers["Authorization"] = f"Bearer {hostile.TOKEN}"
            await self._send(client, self._orders(dice, requests // 10))
            self._report = Report()
            for done in range(0, requests, chunk):
                await self._send(client, self._orders(dice, min(chunk, requests - done)))
                self._report.readings.append(reading(process, min(requests, done + chunk)))
        self._report.faults += [fault for each in self._report.valid.values() for fault in each.faults]
        return self._report

    def _orders(self, dice: random.Random, count: int) -> Iterator[valid.Request | hostile.Attack]:
        for _ in range(count):
            if dice.random() < HOSTILE_SHARE:
                yield hostile.KINDS[dice.choice(list(hostile.KINDS))](dice)
            else:
                yield valid.make(self._content, dice, dice.choice(list(valid.KINDS)))

    async def _send(self, client: httpx.AsyncClient, orders: Iterator[valid.Request | hostile.Attack]) -> None:
        async def worker() -> None:
            for order in orders:
                if isinstance(order, valid.Request):
                    response = await client.post(order.path, json=order.body)
                    self._report.valid[order.kind].judge(order, response)
                else:
                    status, body = await attack(self._port, order)
                    self._report.hostile[order.kind][str(status or "closed")] += 1
                    if fault := fault_of(order, status, body):
                        self._report.faults.append(fault)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def attack(port: int, order: hostile.Attack) -> tuple[int, bytes]:
    """Send it, and return the first answer's status and body; 0 if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with suppress(ConnectionError):
        writer.write(order.sent)
        await writer.drain()
        if order.ends == "shuts":
            writer.write_eof()
        while order.ends != "leaves" and not is_whole(answer):
            part = await asyncio.wait_for(reader.read(1 << 16), PATIENCE_S)
            if not part:
                break
            answer += part
    writer.transport.abort()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if head else (0, b"")


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.splitlines() if line.lower().startswith(b"content-length")]
    return bool(end) and (not lengths or len(body) >= int(lengths[0]))


def fault_of(order: hostile.Attack, status: int, body: bytes) -> str:
    """Say what is wrong about an answer; nothing if it is one of those that may come, in the documented shape."""
    if order.ends == "leaves" or (status in order.statuses and (status in (0, 200) or has_shape(order, body))):
        return ""
    return f"{order.kind}: {status or 'closed'} {body[:200]!r} to {order.sent[:200]!r}"


def has_shape(order: hostile.Attack, body: bytes) -> bool:
    """Whether an error has the shape of its path's protocol; of what is not HTTP no path may be known."""
    try:
        error = json.loads(body)
    except ValueError:
        return False
    is_plain = set(error) == {"error", "detail"} and all(isinstance(each, str) for each in error.values())
    if is_plain:
        return not order.path.startswith("/v1/") or order.kind == "smuggling"
    return set(error) == {"error"} and set(error["error"]) == {"message", "type", "code", "param"}


def run(requests: int, texts: int = 300, images: int = 40) -> Report:
    """Start a server, compute what is expected, and send it all."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        with serving(Path(directory), port, {"models": valid.MODELS, "http": HTTP}) as server, client(port) as asking:
            content = valid.Content.computed(asking, texts, images)
            process = psutil.Process(server.pid)
            report = asyncio.run(Mixed(port, content).run(requests, process))
            metrics = asking.get("/metrics").text
            report.faults += after(asking, process, report.readings[-1], metrics)
            if server.stop() != 0:
                report.faults.append(f"the server ended with {server.returncode}")
            report.faults += [f"logged: {line}" for line in server.log.splitlines() if "Traceback" in line]
    return report


def after(asking: httpx.Client, process: psutil.Process, last: Reading, metrics: str) -> list[str]:
    """What is wrong with the server when all is done."""
    faults = []
    if asking.get("/health").json()["status"] != "ok":
        faults.append("the server is not healthy")
    for name in ("legit_http_in_flight_items", "legit_in_flight_items"):
        held = [line for line in metrics.splitlines() if line.startswith(name + "{") and not line.endswith(" 0.0")]
        faults += [f"left behind: {line}" for line in held]
    return faults


def serving(directory: Path, port: int, config: dict[str, Any]) -> Worker:
    """A server without Redis."""
    return Worker(NOWHERE, directory, config, command=SERVE, args=("--port", str(port)))


@contextmanager
def client(port: int) -> Iterator[httpx.Client]:
    """A client of a server that is well."""
    headers = {"Authorization": f"Bearer {hostile.TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE_S) as asking:

        def is_well() -> bool:
            with suppress(httpx.TransportError):
                return asking.get("/health").is_success
            return False

        wait_for(is_well, PATIENCE_S, "the server to be well")
        yield asking
