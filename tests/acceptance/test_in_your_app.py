"""The page `docs/in-your-app.md`, line by line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import redis

from tests.servers import Server
from tests.waiting import wait_for
from tests.workers import ROOT, Worker

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "in-your-app.md"
URL = "redis://localhost:6379/0"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.\w+)\n")


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.workers: list[Worker] = []
        folder.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LEGIT_", "CELERY_"))}
        path = f"{folder}{os.pathsep}{ROOT}"
        self.env = kept | {"PYTHONPATH": path, "LEGIT_CONFIG": str(folder / "legit.toml"), "HF_HUB_OFFLINE": "1"}

    def follow(self, language: str, text: str) -> None:
        text = text.replace(URL, self.url)
        named = FILE.match(text)
        if named:
            (self.folder / named[1]).write_text(text)
        elif language == "python":
            self.run([sys.executable, "-c", text])
        else:
            assert language == "console", language
            for line in text.splitlines():
                self.command(line.removeprefix("$ "))

    def command(self, line: str) -> None:
        program, *arguments = shlex.split(line.replace("$(hostname)", os.uname().nodename))
        assert program == "celery"
        if "worker" not in arguments:
            assert "OK" in self.run([sys.executable, "-m", "celery", *arguments])
            return
        own = self.folder / f"worker-{len(self.workers) + 1}"
        worker = Worker(self.url, own, command=("-m", "celery", *arguments), env=self.env | {"PYTHONUNBUFFERED": "1"})
        self.workers.append(worker)
        worker.start()
        worker.wait_ready()

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_the_page_is_true(tmp_path):
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("\n```") // 2, "every block is understood"
    with Server("valkey", tmp_path / "valkey") as server:
        reader = Reader(tmp_path / "shop", server.url)
        client = redis.Redis.from_url(server.url, decode_responses=True)
        client.xadd("embedding_tasks", {"task_id": "streamed", "text": "x"})
        try:
            for language, text in blocks:
                reader.follow(language, text)
            wanted = {"streamed", "42", "43", "44"}

            def answered() -> bool:
                entries = [fields for _, fields in client.xrange("embedding_results")]
                return wanted == {fields["task_id"] for fields in entries if fields["status"] == "ok"}

            wait_for(answered, 30, "all that the page sends, and the task stream")
        finally:
            for worker in reader.workers:
                worker.kill()
            client.close()
