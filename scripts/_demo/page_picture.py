"""Takes pictures of the page while a real worker embeds real photos and sentences.

MiniLM has its own weights; those of the two-tower model for photos are random (seeded), so what they find alike means
nothing, but the work and every figure are real.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from load import steady_load
from samples import free_photo_folder
from services import ROOT, TASKS, Worker, redis_address, write_settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURE = ROOT / "docs" / "page.png"
WATCHED_S = 75
"""So that the line of the last minutes has something to show."""
TEXTS = ("A cat sleeps on the warm windowsill.", "On the sill, in the sun, a kitten naps.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="page_picture", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where to put a picture of every width and colour scheme")
    parser.add_argument("--seconds", type=int, default=WATCHED_S, help="of figures (default: %(default)s)")
    options = parser.parse_args()
    photos = free_photo_folder()
    os.environ["LEGIT_HTTP__PORT"] = str(port := _free_port())
    os.environ["LEGIT_WORKER_ID"] = "worker-1"
    with tempfile.TemporaryDirectory(prefix="legit-page-") as name, redis_address(Path(name)) as url:
        worker = Worker(Path(name), url, write_settings(Path(name), photos, TASKS))
        try:
            worker.wait_ready(180)
            with steady_load(url, photos):
                _take(f"http://127.0.0.1:{port}/", options.folder, options.seconds)
        finally:
            worker.abandon()
    return 0


def _take(address: str, folder: Path | None, seconds: int) -> None:
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        if folder is None:
            page = _opened(browser, address, 1280, "light", 2)
            page.wait_for_timeout(1000 * seconds)
            _shoot(page, PICTURE)
            _shrink(PICTURE)
            return
        folder.mkdir(parents=True, exist_ok=True)
        wanted = list(itertools.product((1280, 390), ("light", "dark")))
        pages = [_opened(browser, address, width, scheme, 1) for width, scheme in wanted]
        pages[-1].wait_for_timeout(1000 * seconds)
        for page, (width, scheme) in zip(pages, wanted, strict=True):
            _shoot(page, folder / f"{width}-{scheme}.png")


def _opened(browser: Browser, address: str, width: int, scheme: str, scale: int) -> Page:
    """The page, live."""
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    page.goto(address)
    return page


def _shoot(page: Page, path: Path) -> None:
    """Take a picture of the page with two texts compared."""
    for box, text in zip(("first", "second"), TEXTS, strict=True):
        page.locator(f"#{box}-text").fill(text)
    page.get_by_role("button", name="Embed").click()
    expect(page.locator("#similarity strong")).to_be_visible(timeout=60_000)
    page.screenshot(path=path, full_page=True)
    page.close()


def _shrink(path: Path) -> None:
    """A palette is enough for flat colours, and takes a quarter of the bytes."""
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
