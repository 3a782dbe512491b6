"""The page in a real browser, before a worker in this process and before one of Celery's."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from legit_embedding.redis_io.health import Outage
from legit_embedding.wire.result import Origin
from tests.door import DIM, MODELS, NULL, Served, slow
from tests.servers import free_port
from tests.told import OnOutcome, nothing
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, FilePayload, Locator, Page

    from tests.clients import Client
    from tests.workers import Worker

    Serve = Callable[..., Served]
    Visit = Callable[..., Page]

LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 740}
HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>"
MILLISECONDS = r"(<1|[\d,]+) ms"
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[Served] = []

    def serve(models: dict[str, Any] | None = None, **http: Any) -> Served:
        made.append(Served(models or MODELS, http, start=True))
        return made[-1]

    yield serve
    for each in made:
        each.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about: scripts that failed, and whatever the policy of the page forbids."""
    return []


@pytest.fixture
def visit(browser: Browser, complaints: list[str]) -> Iterator[Visit]:
    """Opens the page; at the end of the test the browser must have had nothing to complain about."""
    contexts = []

    def visit(served: Served | int, viewport: dict[str, int] = LAPTOP, scheme: str = "light") -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        port = served if isinstance(served, int) else served.port
        page.on("request", lambda request: complaints.extend(elsewhere(request.url, port)))
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def elsewhere(url: str, port: int) -> list[str]:
    is_own = url.startswith((f"http://127.0.0.1:{port}/", f"blob:http://127.0.0.1:{port}/"))
    return [] if is_own else [f"a request to {url}"]


def fail(served: Served, task_id: str = "late") -> None:
    """Have a task answered with an error."""
    task = {"task_id": task_id, "text": "a", "deadline": 1}
    served.pipeline.submit(task, Origin("http", task_id), OnOutcome(nothing))


def number(locator: Locator) -> int:
    return int(locator.inner_text().replace(",", ""))


def picture(colour: str = "red", name: str = "red.png") -> FilePayload:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def data_url(payload: FilePayload) -> str:
    return "data:image/png;base64," + base64.b64encode(payload["buffer"]).decode()


def cosine(vectors: list[list[float]]) -> str:
    first, second = np.array(vectors)
    return f"{first @ second / np.linalg.norm(first) / np.linalg.norm(second):.3f}".replace("-0.000", "0.000")


class TestFlow:
    def test_figures_move_while_the_worker_embeds(self, serve: Serve, visit: Visit) -> None:
        served = serve()
        page = visit(served)
        expect(page.locator("#state")).to_have_text("Running")
        expect(page.locator("#worker")).to_have_text("pod")
        expect(page.locator("#idle")).to_contain_text("Nothing has come yet")
        done = threading.Event()

        def work() -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client:
                while not done.is_set():
                    client.post("/embed", json={"texts": ["a"] * 10})

        worker = threading.Thread(target=work)
        worker.start()
        try:
            expect(page.locator("#rate")).to_have_text(re.compile(r"^[1-9]"))
            first = number(page.locator("#embedded"))
            wait_for(lambda: number(page.locator("#embedded")) > first, 60, "more to be embedded")
        finally:
            done.set()
            worker.join()
        expect(page.locator("#idle")).to_be_hidden()
        expect(page.locator("#embedded")).to_have_text(f"{served.pipeline.snapshot().embedded:,}")
        words = page.locator(".model", has_text="words")
        expect(words.locator("[data-name=device_share]")).to_have_text("100 %")
        expect(words.locator(".speed")).to_have_text(re.compile(r"^[\d,.]+/s$"))
        expect(page.locator(".model", has_text="pictures")).to_contain_text("Nothing has come for it yet")
        expect(page.locator("#spark .line")).to_have_attribute("d", re.compile(r"^M.+L.+"))

    def test_what_waits_is_shown_by_stage(self, serve: Serve, visit: Visit) -> None:
        served = serve(slow(0.05))
        for each in range(200):
            task = {"task_id": str(each), "text": str(each)}
            served.pipeline.submit(task, Origin("http", str(each)), OnOutcome(nothing))
        page = visit(served)
        expect(page.locator("[data-stage=waiting] .count")).to_have_text(re.compile(r"^[1-9]"))
        expect(page.locator("[data-stage=device] .count")).to_have_text(re.compile(r"^[1-9]"))
        expect(page.locator("#oldest")).to_have_text(re.compile(r" s$"))
        expect(page.locator("#empty")).to_have_text(re.compile(r" s$"))
        expect(page.locator("#empty")).to_have_text("all done")
        expect(page.locator("[data-stage=waiting] .count")).to_have_text("0")

    def test_errors_are_shown_only_when_there_are_any_and_as_text(self, serve: Serve, visit: Visit) -> None:
        served = serve()
        page = visit(served)
        expect(page.locator("#state")).to_have_text("Running")
        expect(page.locator("#errors-part")).to_be_hidden()
        fail(served, HOSTILE)
        expect(page.locator("#errors tr")).to_have_text("expiredwords1")
        expect(page.locator("#last li")).to_contain_text(f"task {HOSTILE}")
        assert page.locator("#last img, #last script").count() == 0
        fail(served, "another")
        expect(page.locator("#errors tr")).to_have_text("expiredwords2")
        expect(page.locator("#last li").first).to_contain_text("task another")

    def test_a_worker_that_is_not_well_says_why(self, serve: Serve, visit: Visit) -> None:
        served = serve()
        outage = Outage("the broker")
        served.pipeline.watch(outage)
        page = visit(served)
        expect(page.locator("#state")).to_have_text("Running")
        outage.failed("connection refused")
        expect(page.locator("#state")).to_have_text("Unhealthy")
        expect(page.locator("#causes")).to_contain_text("The broker is out of order: connection refused")
        expect(page.get_by_role("status").first).to_have_text("pod: Unhealthy")
        assert page.title().startswith("Unhealthy")
        outage.over()
        expect(page.locator("#state")).to_have_text("Running")
        expect(page.locator("#causes li")).to_have_count(0)

    def test_a_worker_that_is_gone_is_missed_and_found_again(
        self, serve: Serve, visit: Visit, complaints: list[str]
    ) -> None:
        served = serve()
        page = visit(served)
        expect(page.locator("#state")).to_have_text("Running")
        served.close()
        expect(page.locator("#state")).to_have_text("No connection")
        expect(page.locator("#link")).to_have_text("Reconnecting")
        serve(port=served.port)
        expect(page.locator("#state")).to_have_text("Running")
        assert all("ERR_CONNECTION_REFUSED" in each for each in complaints)
        complaints.clear()

    def test_a_worker_that_only_shows_itself_has_no_box_to_try(self, serve: Serve, visit: Visit) -> None:
        page = visit(serve(embed=False))
        expect(page.locator("#state")).to_have_text("Running")
        expect(page.locator(".model")).to_have_count(2)
        expect(page.locator("#try-part")).to_be_hidden()
        expect(page.locator("#docs")).to_be_hidden()


class TestTry:
    def test_two_texts(self, serve: Serve, visit: Visit) -> None:
        served = serve()
        page = visit(served)
        page.get_by_label("Text of the first input").fill("a red bicycle")
        page.get_by_role("button", name="Embed").click()
        first = page.locator("[data-input=first] .answer")
        expect(first).to_contain_text(f"{DIM} dimensions from words")
        for stage in ("prep", "wait", "device", "rest"):
            time = re.compile(f"^{stage} {MILLISECONDS}$")
            expect(first.locator(f"li[data-stage={stage}]")).to_have_text(time)
        expect(page.locator("#similarity")).to_have_text("Fill in both to compare them.")
        page.get_by_label("Text to compare with").fill("ein rotes Fahrrad")
        page.get_by_role("button", name="Embed").click()
        answer = served.embed(texts=["a red bicycle", "ein rotes Fahrrad"]).json()
        expect(page.locator("#similarity strong")).to_have_text(cosine(answer["dense_vecs"]))
        values = ", ".join(f"{value:.3f}" for value in answer["dense_vecs"][0][:3])
        expect(first.get_by_role("img")).to_have_attribute(
            "aria-label", re.compile(re.escape(f"begins with {values}") + "$")
        )

    def test_pictures_chosen_and_dropped(self, serve: Serve, visit: Visit) -> None:
        served = serve()
        page = visit(served)
        red, blue = picture(), picture("blue", "blue.png")
        page.locator("#first-file").set_input_files(red)
        expect(page.locator("[data-input=first] img")).to_have_attribute("alt", "Preview of red.png")
        dropped = page.evaluate_handle(
            """([data, name]) => {
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
                return transfer;
            }""",
            [base64.b64encode(blue["buffer"]).decode(), blue["name"]],
        )
        page.locator("[data-input=second]").dispatch_event("drop", {"dataTransfer": dropped})
        page.get_by_role("button", name="Embed").click()
        answer = served.embed(images=[data_url(red), data_url(blue)]).json()
        assert answer["model"] == "pictures"
        expect(page.locator("[data-input=second] .answer")).to_contain_text(f"{DIM} dimensions from pictures")
        expect(page.locator("#similarity strong")).to_have_text(cosine(answer["dense_vecs"]))
        shown = page.locator("[data-input=second] img").evaluate(
            "(image) => image.decode().then(() => image.naturalWidth)"
        )
        assert shown == 40
        page.get_by_role("button", name="Remove the second picture").click()
        expect(page.get_by_label("Text to compare with")).to_be_focused()
        page.get_by_label("Text to compare with").fill("words")
        page.get_by_role("button", name="Embed").click()
        expect(page.locator("#similarity")).to_have_text("Vectors of two models cannot be compared.")

    def test_a_text_and_a_picture_of_one_model(self, serve: Serve, visit: Visit) -> None:
        served = serve({"both": {key: NULL[key] for key in ("backend", "options")} | {"kinds": ["image", "text"]}})
        page = visit(served)
        page.get_by_label("Text of the first input").fill("red")
        page.locator("#second-file").set_input_files(red := picture())
        page.get_by_role("button", name="Embed").click()
        text, image = served.embed(texts=["red"]).json(), served.embed(images=[data_url(red)]).json()
        expect(page.locator("#similarity strong")).to_have_text(cosine(text["dense_vecs"] + image["dense_vecs"]))
        expect(page.locator(".model h3")).to_have_text(["both (image)", "both (text)"])

    def test_what_is_refused_says_why(self, serve: Serve, visit: Visit, complaints: list[str]) -> None:
        served = serve()
        page = visit(served)
        page.get_by_role("button", name="Embed").click()
        expect(page.locator("#similarity")).to_have_text("Enter a text or choose a picture first.")
        page.get_by_label("Text of the first input").fill("words")
        page.get_by_role("combobox", name="Model").select_option("pictures")
        page.get_by_role("button", name="Embed").click()
        refused = served.embed(texts=["words"], model="pictures").json()["detail"]
        expect(page.locator("[data-input=first] .answer .problem")).to_have_text(refused)
        assert all("404" in each for each in complaints)
        complaints.clear()

    def test_by_keyboard_alone(self, serve: Serve, visit: Visit) -> None:
        page = visit(serve())
        expect(page.locator("#state")).to_have_text("Running")

        def tab_to(target: str) -> None:
            for _ in range(30):
                page.keyboard.press("Tab")
                if page.locator(f"{target}:focus-visible").count():
                    return
            pytest.fail(f"the Tab key does not lead to {target}")

        tab_to("#first-text")
        page.keyboard.type("one")
        tab_to("#second-text")
        page.keyboard.type("one")
        tab_to("#embed")
        page.keyboard.press("Enter")
        expect(page.locator("#similarity strong")).to_have_text("1.000")
        page.keyboard.press("Shift+Tab")
        expect(page.locator("#second-file")).to_be_focused()
        page.locator("#second-text").focus()
        page.keyboard.type(" and more")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#similarity strong")).not_to_have_text("1.000")
        outline = page.locator("#second-text").evaluate("(element) => getComputedStyle(element).outlineStyle")
        assert outline == "solid"

    def test_a_worker_of_one_kind_asks_for_nothing_else(self, serve: Serve, visit: Visit) -> None:
        page = visit(serve({"pictures": NULL | {"kind": "image"}}))
        expect(page.locator("[data-input=first] .choose")).to_be_visible()
        expect(page.locator("#first-text")).to_be_hidden()
        expect(page.locator("#model")).to_be_hidden()


class TestToken:
    def test_it_is_asked_for_and_kept_in_this_tab_only(self, serve: Serve, visit: Visit, complaints: list[str]) -> None:
        page = visit(serve(token="one"))
        asked = page.get_by_label("Token")
        expect(asked).to_be_focused()
        expect(page.locator("#live")).to_be_hidden()
        asked.fill("two")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The worker does not accept this token.")
        asked.fill("one")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#state")).to_have_text("Running")
        page.get_by_label("Text of the first input").fill("a")
        page.get_by_role("button", name="Embed").click()
        expect(page.locator("[data-input=first] .answer")).to_contain_text(f"{DIM} dimensions")
        page.reload()
        expect(page.locator("#state")).to_have_text("Running")
        kept = page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]")
        assert kept == [1, 0, ""]
        assert all("401" in each for each in complaints)
        complaints.clear()


class TestEverybody:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
    def test_axe_finds_nothing(self, serve: Serve, visit: Visit, viewport: dict[str, int], scheme: str) -> None:
        served = serve()
        served.embed(texts=["a"])
        fail(served)
        page = visit(served, viewport, scheme)
        page.get_by_label("Text of the first input").fill("a")
        page.locator("#second-file").set_input_files(picture())
        page.get_by_role("button", name="Embed").click()
        expect(page.locator("#similarity")).to_contain_text("cannot be compared")
        expect(page.locator("#last li")).to_be_visible()
        assert violations(page) == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing_where_the_token_is_asked_for(
        self, serve: Serve, visit: Visit, complaints: list[str], scheme: str
    ) -> None:
        page = visit(serve(token="one"), scheme=scheme)
        page.get_by_label("Token").fill("two")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not accept")
        assert violations(page) == []
        complaints.clear()

    def test_a_phone_needs_no_scrolling_sideways(self, serve: Serve, visit: Visit) -> None:
        served = serve({f"a-model-with-quite-a-long-name-{'x' * 60}": NULL | {"kind": "text"}})
        served.embed(texts=["a"])
        fail(served, "a-task-with-a-long-name" * 10)
        served.pipeline.notices["long"] = "a" * 200
        page = visit(served, PHONE)
        page.get_by_label("Text of the first input").fill("a")
        page.get_by_role("button", name="Embed").click()
        expect(page.locator("[data-input=first] .answer")).to_contain_text(f"{DIM} dimensions")
        expect(page.locator("#last li")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]

    def test_a_page_that_nobody_sees_costs_nothing(self, serve: Serve, visit: Visit) -> None:
        served = serve()
        page = visit(served)
        expect(page.locator("#state")).to_have_text("Running")
        broadcast = served.source._broadcast
        assert broadcast.listeners == 1
        hide = """(hidden) => {
            Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        page.evaluate(hide, True)
        wait_for(lambda: broadcast.listeners == 0 and broadcast._looking is None, 60, "the worker to stop looking")
        page.evaluate(hide, False)
        wait_for(lambda: broadcast.listeners == 1, 60, "the page to look again")
        page.close()
        wait_for(lambda: broadcast.listeners == 0, 60, "the closed page to be counted out")


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


class TestWorker:
    def test_it_agrees_with_top(
        self,
        make_worker: Callable[..., Worker],
        client: Client,
        redis_url: str,
        visit: Visit,
        complaints: list[str],
    ) -> None:
        port = free_port()
        for number in range(40):
            client.redis.xadd("embedding_tasks", {"text": str(number)})  # read by nobody

        def top() -> dict[str, Any]:
            command = (sys.executable, "-m", "legit_embedding.cli", "top", "--once", "--json")
            done = subprocess.run(
                command, env=os.environ | {"LEGIT_REDIS_URL": redis_url}, capture_output=True, check=True
            )
            return json.loads(done.stdout)

        def is_over(scene: dict[str, Any]) -> bool:
            return scene["empty_in_s"] is None and [each["embedded"] for each in scene["workers"]] == [50]

        with make_worker({"http": {"port": port}, "streams": {"consume": False}}, args=("-n", "gpu-1@pod")) as worker:
            worker.wait_ready()
            page = visit(port)
            answer = httpx.post(f"http://127.0.0.1:{port}/embed", json={"texts": ["a"] * 50}, timeout=60)
            assert answer.status_code == 200
            expect(page.locator("#rate")).to_have_text(re.compile(r"[1-9]"))
            expect(page.locator("#embedded")).to_have_text("50")
            # Once the window of the rate is over, nobody knows how long the rest will take.
            expect(page.locator("#empty")).to_have_text("unknown")
            expect(page.locator("[data-stage=queued] .count")).to_have_text("40")
            shown = wait_for(lambda: is_over(seen := top()) and seen, 60, "top to see the same", interval=1)
            assert (shown["waiting"], shown["in_flight"], shown["items_per_s"]) == (40, 0, 0.0)
            [row] = shown["workers"]
            assert (row["worker"], row["state"]) == ("gpu-1@pod", "running")
            expect(page.locator("#group tr")).to_have_text(re.compile(r"^gpu-1@podrunning0\.00"))
            expect(page.locator("#rate")).to_have_text("0.0")
            expect(page.locator("#in-flight")).to_have_text("0")
            fill = next(iter(row["models"].values()))["batch_fill"]
            expect(page.locator("[data-name=batch_fill]").first).to_have_text(f"{round(100 * fill)} %")
            # An open page delays no stop, and its stream has an orderly end.
            assert worker.stop() == 0
            expect(page.locator("#state")).to_have_text("No connection")
            page.close()  # it would go on trying
        assert all("ERR_CONNECTION_REFUSED" in each for each in complaints)
        complaints.clear()
