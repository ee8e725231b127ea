"""The app driven in a real browser: upload, paint, propagate, correct, download."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siammae.propagation import LabelPropagator, propagate_labels
from siammae.synthetic import render_clip
from siammae.video import read_frames, write_video

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name in ("gradio", "playwright") if find_spec(name) is None] + ([] if BROWSER else ["chromium"])
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

SIZE, NUM_FRAMES = 96, 7
ARGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "my clip.mp4"
    write_video(path, render_clip(NUM_FRAMES, (120, 212)).frames, 24)
    return path


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "siammae",
        "app",
        "--port",
        str(port),
        "--no-browser",
        "--size",
        str(SIZE),
        "--dtype",
        "float32",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C ends it" in line:
                break
        else:
            pytest.fail(f"the app did not start: exit code {process.wait()}")
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The open page; nothing may be fetched from elsewhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGS.split())
        tab = browser.new_page(viewport={"width": 1000, "height": 1200})
        tab.set_default_timeout(20_000)
        elsewhere: list[str] = []
        tab.on("request", lambda request: elsewhere.append(request.url) if not _is_local(request.url, address) else None)
        tab.goto(address)
        yield tab
        browser.close()
    assert not elsewhere


def _is_local(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def _open(page: Any, clip: Path) -> None:
    page.locator("#file input[type=file]").set_input_files(clip)
    page.get_by_text(f"{NUM_FRAMES} frames of 212 x 120 pixels").wait_for()
    page.wait_for_function("document.querySelector('#canvas img').naturalWidth > 0")


def _stroke(page: Any, *places: tuple[float, float]) -> None:
    """Press, move and release the mouse at these pixels of the frame, and wait for the drawn picture."""
    image = page.locator("#canvas img")
    image.scroll_into_view_if_needed()
    before, area = image.get_attribute("src"), image.bounding_box()
    x, y = ((area["x"], area["y"])[axis] for axis in (0, 1))
    to_page = [(x + (u + 0.5) * area["width"] / 212, y + (v + 0.5) * area["height"] / 120) for u, v in places]
    page.mouse.move(*to_page[0])
    page.mouse.down()
    for place in to_page:
        page.mouse.move(*place)
    page.mouse.up()
    page.wait_for_function("before => document.querySelector('#canvas img').src != before", arg=before)


def _choose(page: Any, group: str, name: str) -> None:
    page.locator(f"#{group}").get_by_role("radio", name=name, exact=True).check()


def _propagate(page: Any) -> str:
    page.click("#run")
    page.get_by_text("Starting").or_(page.get_by_text("frames done")).first.wait_for()
    page.get_by_text("Done:").wait_for()
    return str(page.locator("#progress").inner_text())


def _set(page: Any, slider: str, value: int) -> None:
    box = page.locator(f"#{slider} input[type=number]")
    box.fill(str(value))
    box.press("Enter")


def _download(page: Any, name: str) -> bytes:
    link = page.locator(f"#downloads a[download='{name}']")
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == name
    return Path(download.value.path()).read_bytes()


def _masks(archive: bytes) -> np.ndarray[Any, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return np.stack([np.array(Image.open(files.open(name))) for name in sorted(files.namelist())])


def test_paint_propagate_and_download(page: Any, clip: Path) -> None:
    _open(page, clip)
    _stroke(page, (60, 50), (90, 55), (90, 70))
    _choose(page, "tool", "Box")
    _choose(page, "number", "2")
    _stroke(page, (120, 30), (160, 70))
    print(_propagate(page))
    page.click("#files")
    masks = _masks(_download(page, "masks.zip"))
    assert set(np.unique(masks[0])) == {0, 1, 2}
    assert 400 < np.count_nonzero(masks[0] == 1) < 900
    assert np.count_nonzero(masks[0] == 2) == 41 * 41
    expected = propagate_labels(clip, masks[0], size=SIZE, progress=False)
    assert np.mean(masks == expected) > 0.9999


def test_correct_a_later_frame_and_click_points(page: Any, clip: Path) -> None:
    _open(page, clip)
    _choose(page, "tool", "Box")
    _stroke(page, (100, 40), (130, 70))
    _propagate(page)
    _set(page, "shown-frame", 4)
    page.click("#correct")
    page.get_by_text("Labelled by hand: masks on frame 0").wait_for()
    page.wait_for_timeout(700)
    _choose(page, "number", "3")
    _stroke(page, (20, 20), (50, 50))
    page.get_by_text("Labelled by hand: masks on frame 0, 4").wait_for()
    assert re.search(r"Done: 3 frames", _propagate(page))  # the frames before the correction stay
    page.click("#files")
    masks = _masks(_download(page, "masks.zip"))
    frames = list(read_frames(clip))
    propagator = LabelPropagator(frames[0], masks[0], size=SIZE)
    propagator.add(frames[4], masks[4])
    assert 3 in masks[4]
    assert 3 not in masks[:4]
    assert np.mean(propagator.step(frames[5]) == masks[5]) > 0.9999

    _set(page, "frame", 0)
    page.wait_for_timeout(700)
    _choose(page, "tool", "Points")
    _choose(page, "number", "1")
    _stroke(page, (100, 60))
    _propagate(page)
    page.click("#files")
    rows = _download(page, "points.csv").decode().splitlines()
    assert rows[0] == "frame,point,x,y,score"
    assert len(rows) == 1 + NUM_FRAMES
    x, y = map(float, rows[1].split(",")[2:4])
    assert (x, y) == pytest.approx((100, 60), abs=0.6)


def test_what_is_no_video_is_refused_in_one_line(page: Any, tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    page.locator("#file input[type=file]").set_input_files(playlist)
    page.get_by_text("the file cannot be read as a video").first.wait_for()
    assert "Traceback" not in page.content()
