"""
Make the pictures of docs/ from the pages themselves, with Chromium: `make screenshots`, after `make demo` and
`make demo_re`.
"""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hub_card.sharing import SpaceFacts, write_space


ROOT = Path(__file__).absolute().parents[1]
MODEL, RELATION_MODEL = (ROOT / "runs" / name for name in ("demo", "demo_re"))
ORGANISATION = 2  # the number of the example
STARTING_SECONDS = 120


@contextlib.contextmanager
def space() -> Iterator[str]:
    """The address of the Space's page, for as long as the block lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        write_space(folder, SpaceFacts("Demo", [str(MODEL)], str(RELATION_MODEL)))
        command = [sys.executable, f"{folder}/app.py", "--model", str(MODEL), "--relation_model", str(RELATION_MODEL)]
        page = subprocess.Popen(command, env={**os.environ, "GRADIO_SERVER_PORT": str(port)})
        try:
            for _ in range(STARTING_SECONDS):
                with contextlib.suppress(URLError):
                    urlopen(f"http://127.0.0.1:{port}").close()
                    break
                if page.poll() is not None:
                    raise SystemExit("The page of the Space does not start. What it printed above says why.")
                time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            page.terminate()
            page.wait()


def opened(browser: Browser, address: str, width: int, height: int, colours: str = "light") -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours).new_page()
    page.goto(address)
    return page


def save(page: Page, name: str) -> None:
    """As a PNG of 256 colours, which is a third of the size."""
    seen = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    seen.quantize().save(ROOT / "docs" / f"{name}.png", optimize=True)
    print(f"Written: docs/{name}.png")


def run_example(page: Page) -> None:
    page.locator(".examples tbody tr").nth(ORGANISATION).click()
    page.locator(".tagged article").wait_for()
    page.mouse.move(0, 0)
    if page.viewport_size["width"] > 600:  # On a phone the result has come into view.
        page.evaluate("window.scrollTo(0, 0)")


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is not installed (on Debian: apt-get install chromium).")
    demo_page = MODEL / "index.html"
    for made_by, needed in (("make demo", demo_page), ("make demo_re", RELATION_MODEL)):
        if not needed.exists():
            raise SystemExit(f"{needed} is not there. Make it first: {made_by}.")
    report = ["predict", "--model", str(MODEL), "--dataset", "demo", "--limit", "6", "--explain", "occlusion"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver, space() as address:
        report += ["--output", f"{folder}/tagged.jsonl", "--html", f"{folder}/report.html"]
        subprocess.run([sys.executable, "-m", "ifaformer_commands", *report], check=True)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        save(opened(browser, demo_page.as_uri(), 1120, 600), "demo")
        save(opened(browser, f"file://{folder}/report.html", 1280, 850), "report")
        for name, width, height, colours in (("space", 1280, 850, "light"), ("space_phone", 400, 850, "dark")):
            page = opened(browser, f"{address}/?__theme={colours}", width, height, colours)
            run_example(page)
            save(page, name)
        browser.close()


if __name__ == "__main__":
    main()
