"""Take the pictures of docs/app.md: the app is run and used in a browser.

python docs/make_app.py  # needs playwright and a chromium
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).with_name("images")
FRAME = 432, 240  # width and height of the example clip
STONE = 60, 128  # where the turtle's mask covers a stone in frame 8
ANIMALS = {"koi": ((200, 104), (358, 178)), "turtle": ((60, 52), (206, 180))}  # corners of a box around each


def main() -> None:
    """Start the app, label two animals of the example clip, propagate, correct a frame, and take pictures before and after."""
    command = [sys.executable, "-m", "siammae", "app", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app, sync_playwright() as playwright:
        assert app.stdout is not None
        address = re.search(r"http://\S+", app.stdout.readline())
        assert address is not None, "the app did not start"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 750})
        page.set_default_timeout(600_000)
        page.goto(address.group())
        page.click("#example")
        page.locator("#stage[aria-label^='Frame 0 of 35']").wait_for()
        for number, (name, corners) in enumerate(ANIMALS.items(), 1):
            if number > 1:
                page.click("#add")
                page.locator(f"#objects li[data-number='{number}'].chosen").wait_for()
            _drag(page, *corners)
            page.locator(f"#stage[aria-label*='Object {number}']").wait_for()
            page.fill(f"[aria-label='Name of object {number}']", name)
            page.keyboard.press("Enter")
            page.locator(f"#stage[aria-label*='{name}']").wait_for()
        page.mouse.move(0, 0)
        page.locator("#estimate", has_text="about").wait_for()
        _save(page, "app-label.jpg")
        page.click("#run")
        page.get_by_text("Done: 36 frames").wait_for()
        _go(page, 8)
        page.locator("#objects li[data-number='2'] .pick").click()
        page.click("[data-click='0']")
        _drag(page, STONE, STONE)
        page.get_by_text("Frame 8: labelled by hand").wait_for()
        page.click("#run")
        page.get_by_text("Done: 28 frames").wait_for()
        _go(page, 24)
        page.mouse.click(1, 1)
        _save(page, "app-result.jpg")
        browser.close()
        app.terminate()


def _go(page: Any, frame: int) -> None:
    page.fill("#frame-number", str(frame))
    page.keyboard.press("Enter")
    page.locator(f"#stage[aria-label^='Frame {frame} ']").wait_for()


def _drag(page: Any, *corners: tuple[int, int]) -> None:
    area = page.locator("#stage").bounding_box()
    scale = min(area["width"] / FRAME[0], area["height"] / FRAME[1])
    left, top = (
        area[at] + (area[side] - size * scale) / 2 for at, side, size in zip("xy", ("width", "height"), FRAME, strict=True)
    )
    for act, (x, y) in zip((page.mouse.down, page.mouse.up), corners, strict=True):
        page.mouse.move(left + x * scale, top + y * scale)
        act()


def _save(page: Any, name: str) -> None:
    page.wait_for_timeout(500)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(IMAGES / name, quality=88, optimize=True)


if __name__ == "__main__":
    main()
