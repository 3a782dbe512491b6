"""What people see in Flower, in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from tests.clients import PREPARE_TEXT
from tests.servers import free_port
from tests.workers import ROOT, wait_for

SCREENSHOT = os.environ.get("SCREENSHOT")
"""Where to keep the picture of the worker's page; docs/flower.png is made this way."""
FLOWER = ("-m", "celery", "-A", "legit_embedding", "flower", "--address=127.0.0.1")


@pytest.fixture(scope="module")
def shared_args():
    return ("-n", "gpu-1@pod")


@pytest.fixture(scope="module")
def flower(shared_worker, shared_url, tmp_path_factory):
    """The address of Flower, which has heard of the worker."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    with (tmp_path_factory.mktemp("flower") / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, *FLOWER, f"--port={port}"),
            cwd=ROOT,
            env=os.environ | {"LEGIT_REDIS_URL": shared_url, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: b"gpu-1@pod" in fetch(f"{address}/workers"), 60, "Flower to know the worker")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def fetch(address):
    try:
        with urlopen(address, timeout=5) as response:
            return response.read()
    except URLError:
        return b""


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    yield page
    page.close()


@pytest.fixture
def client(shared_client):
    return shared_client


def row(page, name):
    """The value beside a name in one of Flower's tables."""
    return (
        page.locator("tr", has=page.locator("td", has_text=re.compile(f"^{name}$", re.IGNORECASE))).locator("td").nth(1)
    )


def term(page, name):
    """The value of a term on a task's page."""
    return page.locator(f"xpath=//dt[normalize-space()='{name}']/following-sibling::dd[1]")


def test_the_worker_and_its_batches(flower, page, client):
    for number in range(50):
        last = client.text(f"text {number}")
    last.get(timeout=30)
    page.goto(f"{flower}/worker/gpu-1@pod?refresh=1")
    expect(page.locator("#workername")).to_have_text("gpu-1@pod")
    expect(row(page, "implementation")).to_contain_text("gpubatch")
    expect(row(page, "batching null text")).to_have_text(re.compile(r"^\d+ batch(es)? of \d+\.\d, 100% of the device$"))
    if SCREENSHOT:
        page.screenshot(path=SCREENSHOT)


def test_a_task_from_received_to_its_receipt(flower, page, client):
    sent = client.text("a red bicycle", task_id="42")
    sent.get(timeout=30)
    wait_for(lambda: b"SUCCESS" in fetch(f"{flower}/task/{sent.id}"), 30, "Flower to hear of it")
    page.goto(f"{flower}/task/{sent.id}")
    expect(term(page, "Status")).to_have_text("SUCCESS")
    expect(term(page, "Worker")).to_have_text("gpu-1@pod")
    for moment in ("Received", "Started", "Succeeded"):
        expect(term(page, moment)).to_have_text(re.compile(r"\d\d:\d\d"))
    expect(term(page, "Runtime")).to_have_text(re.compile(r"[1-9].* ms"))
    expect(term(page, "Result")).to_contain_text("embedding_results")


def test_a_failed_task_shows_why(flower, page, client):
    sent = client.send(PREPARE_TEXT, {"task_id": "43"})
    wait_for(lambda: b"FAILURE" in fetch(f"{flower}/task/{sent.id}"), 30, "Flower to hear of it")
    page.goto(f"{flower}/task/{sent.id}")
    expect(term(page, "Status")).to_have_text("FAILURE")
    expect(term(page, "Exception")).to_contain_text("invalid_task")


def test_the_pool_grows_at_the_push_of_a_button(flower, page, client):
    def size():
        return next(iter(client.app.control.inspect(timeout=5, limit=1).stats().values()))["pool"]["max-concurrency"]

    before = size()
    page.goto(f"{flower}/worker/gpu-1@pod")
    page.locator("#pool-size").fill("2")
    page.locator("#worker-pool-grow").click()
    wait_for(lambda: size() == before + 2, 20, "two threads more")
    page.locator("#worker-pool-shrink").click()
    wait_for(lambda: size() == before, 20, "two threads fewer")
