"""The app driven in a real browser: upload, paint, propagate, correct, download."""

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
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
MISSING = [name for name in ("starlette", "uvicorn", "playwright") if find_spec(name) is None] + (
    [] if BROWSER else ["chromium"]
)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

MODEL, SIZE, NUM_FRAMES = "vitt8d6", 96, 7
ARGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
NARROW = """[["trim-start", 2999], ["trim-stop", 2999], ["trim-step", 10], ["frame-number", 2999]].filter(([id, number]) => {
    const field = document.getElementById(id);
    field.value = number;
    return field.scrollWidth > field.clientWidth;
})"""  # fields that cut off digits
STATE = "fetch(`/api/projects/${location.hash.slice(1)}`).then((answer) => answer.json())"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "my clip.mp4"
    write_video(path, render_clip(NUM_FRAMES, (120, 212)).frames, 24)
    return path


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as url:
        yield url


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Run the app in a process of its own; yields its address."""
    command = [sys.executable, "-m", "siammae", "app", "--port", "0", "--no-browser", "--size", str(SIZE), *options]
    command += ["--model", MODEL, "--dtype", "float32"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+", line):
                break
        else:
            pytest.fail(f"the app did not start: exit code {process.wait()}")
        try:
            yield found.group()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=ARGS.split())
        yield running
        running.close()


@pytest.fixture
def page(address: str, browser: Any) -> Iterator[Any]:
    with opened(browser, address) as tab:
        yield tab


@contextmanager
def opened(browser: Any, address: str, width: int = 1440, height: int = 900, **options: Any) -> Iterator[Any]:
    """The page in a tab of its own; nothing may be fetched from elsewhere, and no script may fail."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    faults: list[str] = []
    tab.on("request", lambda request: None if _is_local(request.url, address) else faults.append(request.url))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.goto(address)
    yield tab
    context.close()
    assert not faults


def _is_local(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def _open(page: Any, clip: Path) -> None:
    page.set_input_files("#file", clip)
    page.get_by_text(f"{NUM_FRAMES} frames, 212 x 120, 24 frames/s").wait_for()
    _shows(page, 0)


def _shows(page: Any, frame: int, what: str = "") -> None:
    """Wait until the stage shows a frame, with `what` among its labels."""
    holds = f"[aria-label*='{what}']" if what else ""
    page.locator(f"#stage[aria-label^='Frame {frame} of {NUM_FRAMES - 1}: ']{holds}").wait_for()


def _shares(page: Any) -> dict[str, float]:
    """Return the share of the frame in per cent that each object covers, as the stage tells screen readers."""
    label = page.locator("#stage").get_attribute("aria-label")
    return {name.strip(): float(share) for name, share in re.findall(r"([^,:]+) ([\d.]+) %", label.split(": ", 1)[1])}


def _at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a pixel of the frame is on the page, while the whole frame is shown."""
    area = page.locator("#stage").bounding_box()
    scale = min(area["width"] / 212, area["height"] / 120)
    left, top = area["x"] + (area["width"] - 212 * scale) / 2, area["y"] + (area["height"] - 120 * scale) / 2
    return left + (x + 0.5) * scale, top + (y + 0.5) * scale


def _stroke(page: Any, *places: tuple[float, float]) -> None:
    """Press, move and release the mouse at these pixels of the frame, and wait for the changed labels."""
    with page.expect_response("**/edit") as answer:
        page.mouse.move(*_at(page, *places[0]))
        page.mouse.down()
        for place in places:
            page.mouse.move(*_at(page, *place))
        page.mouse.up()
    assert answer.value.ok, answer.value.text()
    _reaches(page, "stage", answer.value.json()["revision"])


def _reaches(page: Any, part: str, revision: int) -> None:
    """Wait until a part of the page shows a revision of the project."""
    page.wait_for_function(
        "([part, revision]) => document.getElementById(part).dataset.revision >= revision", arg=[part, revision]
    )


def _choose(page: Any, tool: str) -> None:
    page.locator(f"[data-tool={tool}]").click()


def _box(page: Any, *corners: tuple[float, float]) -> None:
    """Draw a box that is not fitted."""
    _choose(page, "select")
    page.locator("#fit").uncheck()
    _stroke(page, *corners)


def _add_object(page: Any) -> None:
    count = page.locator("#objects li").count()
    page.click("#add")
    page.locator(f"#objects li.chosen[data-number='{count + 1}']").wait_for()


def _propagate(page: Any) -> str:
    with page.expect_response("**/propagate"):
        page.click("#run")
    while (state := page.evaluate(STATE))["job"]["state"] in ("queued", "running"):
        page.wait_for_timeout(50)
    _reaches(page, "work", state["revision"])
    page.locator("#progress", has_text="Done:").wait_for()
    return str(page.locator("#progress").inner_text())


def _go(page: Any, frame: int) -> None:
    page.fill("#frame-number", str(frame))
    page.press("#frame-number", "Enter")
    _shows(page, frame)


def _download(page: Any, name: str) -> bytes:
    with page.expect_download() as download:
        page.click(f"[data-file='{name}']")
    assert download.value.suggested_filename == name
    return Path(download.value.path()).read_bytes()


def _masks(archive: bytes) -> np.ndarray[Any, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return np.stack([np.array(Image.open(files.open(name))) for name in sorted(files.namelist()) if name.endswith(".png")])


def test_paint_propagate_and_download(page: Any, clip: Path) -> None:
    _open(page, clip)
    _choose(page, "brush")
    page.fill("#width", "12")
    _stroke(page, (60, 50), (90, 55), (90, 70))
    _add_object(page)
    _box(page, (120, 30), (160, 70))
    print(_propagate(page))
    masks = _masks(_download(page, "masks.zip"))
    assert set(np.unique(masks[0])) == {0, 1, 2}
    assert 400 < np.count_nonzero(masks[0] == 1) < 900
    assert np.count_nonzero(masks[0] == 2) == 41 * 41
    expected = propagate_labels(clip, masks[0], MODEL, size=SIZE, progress=False)
    assert np.mean(masks == expected) > 0.9999
    assert len(list(read_frames(_file(_download(page, "overlay.mp4"), clip)))) == NUM_FRAMES


def _file(data: bytes, beside: Path) -> Path:
    path = beside.with_name("overlay.mp4")
    path.write_bytes(data)
    return path


def test_correct_a_later_frame_and_click_points(page: Any, clip: Path) -> None:
    _open(page, clip)
    _box(page, (100, 40), (130, 70))
    _propagate(page)
    _go(page, 4)
    _add_object(page)
    _add_object(page)
    _stroke(page, (20, 20), (50, 50))
    page.get_by_text("Frame 4: labelled by hand").wait_for()
    assert "Done: 3 frames" in _propagate(page)  # the frames before the correction stay
    masks = _masks(_download(page, "masks.zip"))
    frames = list(read_frames(clip))
    propagator = LabelPropagator(frames[0], masks[0], MODEL, size=SIZE)
    propagator.add(frames[4], masks[4])
    assert 3 in masks[4]
    assert 3 not in masks[:4]
    assert np.mean(propagator.step(frames[5]) == masks[5]) > 0.9999

    _go(page, 0)
    _choose(page, "points")
    _stroke(page, (100, 60))
    _shows(page, 0, "1 points")
    _propagate(page)
    rows = _download(page, "points.csv").decode().splitlines()
    assert rows[0] == "frame,point,x,y,score"
    assert len(rows) == 1 + NUM_FRAMES
    x, y = map(float, rows[1].split(",")[2:4])
    assert (x, y) == pytest.approx((100, 60), abs=0.6)


def test_what_is_no_video_is_refused_in_one_line(page: Any, tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    page.set_input_files("#file", playlist)
    page.get_by_text("the file cannot be read as a video").first.wait_for()
    assert "Traceback" not in page.content()


def test_everything_is_undone_and_redone(page: Any, clip: Path) -> None:
    _open(page, clip)
    _box(page, (100, 40), (130, 70))
    _choose(page, "points")
    _stroke(page, (60, 60))
    _add_object(page)
    _choose(page, "brush")
    _stroke(page, (20, 20), (60, 20))
    before = page.locator("#stage").get_attribute("aria-label")
    assert set(_shares(page)) == {"Object 1", "Object 2"}
    for _ in range(4):
        with page.expect_response("**/edit"):
            page.keyboard.press("Control+z")
    _shows(page, 0, "no labels")
    assert page.locator("#objects li").count() == 1
    assert page.locator("#undo").is_disabled()
    for _ in range(4):
        with page.expect_response("**/edit"):
            page.keyboard.press("Control+Shift+z")
    _shows(page, 0, "Object 2")
    assert page.locator("#stage").get_attribute("aria-label") == before
    assert page.locator("#redo").is_disabled()


def test_two_pages_with_the_same_file_have_their_own_results(browser: Any, address: str, clip: Path) -> None:
    with opened(browser, address) as first, opened(browser, address) as second:
        for tab in (first, second):
            _open(tab, clip)
        _box(first, (100, 40), (130, 70))
        _box(second, (20, 40), (60, 70))
        for tab in (first, second):
            tab.click("#run")
        for tab, place in ((first, (110, 50)), (second, (40, 50))):
            tab.get_by_text("Done:").wait_for()
            masks = _masks(_download(tab, "masks.zip"))
            assert masks[0][place[::-1]] == 1
            assert np.mean(masks == propagate_labels(clip, masks[0], MODEL, size=SIZE, progress=False)) > 0.9999
        assert first.url != second.url


def test_who_waits_in_the_queue_sees_the_place_and_may_leave(browser: Any, address: str, tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", list(render_clip(NUM_FRAMES, (120, 212)).frames) * 30, 24)
    with opened(browser, address) as first, opened(browser, address) as second:
        for tab in (first, second):
            tab.set_input_files("#file", tmp_path / "long.mp4")
            tab.locator(f"#stage[aria-label^='Frame 0 of {30 * NUM_FRAMES - 1}: ']").wait_for()
            _box(tab, (100, 40), (130, 70))
            tab.click("#run")
        second.get_by_text("Waiting: one propagation is before yours").wait_for()
        second.click("#stop")
        second.get_by_text("Stopped before it began; Propagate goes on").wait_for()
        first.get_by_text(re.compile("frames/s, .* left")).wait_for()
        first.click("#stop")
        first.get_by_text(re.compile(r"Stopped after \d+ of 210; Propagate goes on")).wait_for()
        done = int(re.findall(r"after (\d+)", first.locator("#progress").inner_text())[0])
        first.click("#run")
        first.get_by_text(re.compile(rf"of {210 - done} frames, ")).wait_for()


def test_a_reload_comes_back_to_the_same_state(page: Any, clip: Path) -> None:
    _open(page, clip)
    _box(page, (100, 40), (130, 70))
    page.locator("#objects input").fill("left fish")
    page.locator("#objects input").press("Enter")
    _shows(page, 0, "left fish")
    _propagate(page)
    _go(page, 5)
    _choose(page, "eraser")
    before = page.locator("#stage").get_attribute("aria-label")
    page.reload()
    _shows(page, 5, "left fish")
    assert page.locator("#stage").get_attribute("aria-label") == before
    assert page.locator("[data-file='masks.zip']").is_visible()
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.locator("#undo:disabled").wait_for()
    page.get_by_text("Frame 0: propagated").wait_for()
    assert "left fish" not in page.locator("#stage").get_attribute("aria-label")


def test_leaving_is_guarded_once_there_is_something_to_lose(browser: Any, address: str, clip: Path) -> None:
    with opened(browser, address) as page:
        asked: list[str] = []
        page.on("dialog", lambda dialog: asked.append(dialog.type))
        _open(page, clip)
        page.reload()
        _shows(page, 0)
        assert not asked
        _box(page, (100, 40), (130, 70))
        page.reload()
        _shows(page, 0, "Object 1")
        assert asked == ["beforeunload"]


def test_masks_are_loaded_and_frames_chosen(page: Any, clip: Path, tmp_path: Path) -> None:
    _open(page, clip)
    ids = np.zeros((120, 212), np.uint8)
    ids[40:60, 50:90] = 9
    for frame in (0, 4):
        Image.fromarray(ids).save(tmp_path / f"{frame:05d}.png")
    page.set_input_files("#mask-file", [tmp_path / "00000.png", tmp_path / "00004.png"])
    page.locator("#objects [data-number='9']").wait_for()
    _go(page, 4)
    _shows(page, 4, "Object 9 3.1 %")
    page.fill("#trim-step", "3")
    page.press("#trim-step", "Tab")
    page.locator("#estimate", has_text="4 frames").wait_for()
    assert "Done: 4 frames" in _propagate(page)
    with zipfile.ZipFile(io.BytesIO(_download(page, "masks.zip"))) as files:
        assert files.namelist() == [*(f"{frame:05d}.png" for frame in (0, 3, 4, 6)), "scores.csv"]
    Image.new("L", (64, 64)).save(tmp_path / "small.png")
    page.set_input_files("#mask-file", tmp_path / "small.png")
    page.get_by_text("the mask is 64 x 64 pixels; the frames are 212 x 120").wait_for()


def test_a_workspace_is_opened_again(browser: Any, clip: Path, tmp_path: Path) -> None:
    options = ("--workspace", str(tmp_path / "work"))
    with served(*options) as address, opened(browser, address) as tab:
        _open(tab, clip)
        _box(tab, (100, 40), (130, 70))
        _propagate(tab)
        _go(tab, NUM_FRAMES - 1)
        shares = _shares(tab)
        second = subprocess.run(
            [sys.executable, "-m", "siammae", "app", "--port", "0", "--no-browser", "--model", MODEL, *options],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert second.returncode == 1
        assert "another siammae app uses the workspace" in second.stderr
    with served(*options) as address, opened(browser, address) as tab:
        tab.get_by_role("link", name="my clip.mp4").click()
        _shows(tab, 0, "Object 1")
        _go(tab, NUM_FRAMES - 1)
        assert _shares(tab) == shares
        tab.locator("[data-file='masks.zip']").wait_for()
        tab.click("#home")
        tab.get_by_role("button", name="Delete my clip.mp4").click()
        tab.get_by_role("link", name="my clip.mp4").wait_for(state="detached")
    assert not list((tmp_path / "work").glob("*/*"))


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768)])
def test_everything_that_matters_is_above_the_fold(browser: Any, address: str, clip: Path, width: int, height: int) -> None:
    with opened(browser, address, width, height) as page:
        _open(page, clip)
        for name in ("stage", "frame", "play", "run", "stop", "objects", "undo", "clear", "trim-start", "zoom-fit"):
            area = page.locator(f"#{name}").bounding_box()
            assert area["x"] >= 0
            assert area["x"] + area["width"] <= width
            assert area["y"] + area["height"] <= height, name
        _box(page, (100, 40), (130, 70))
        _propagate(page)
        assert page.evaluate("document.documentElement.scrollHeight") <= height
        area = page.locator("#frame").bounding_box()
        assert area["y"] + area["height"] <= height
        assert page.locator("#stage").bounding_box()["height"] > 0.6 * height
        assert not page.evaluate(NARROW)


def test_a_phone_scrolls_past_the_picture_and_pinches_it(browser: Any, address: str, clip: Path) -> None:
    with opened(browser, address, 390, 844, has_touch=True, is_mobile=True) as page:
        _open(page, clip)
        assert page.locator("[data-tool=move]").get_attribute("aria-checked") == "true"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        client, (x, y) = page.context.new_cdp_session(page), _at(page, 106, 60)

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", (x, y))
        for step in range(1, 9):
            touch("touchMove", (x, y - 20 * step))
        touch("touchEnd")
        page.wait_for_timeout(300)
        assert page.evaluate("window.scrollY") > 50

        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(100)
        touch("touchStart", (x - 20, y), (x + 20, y))
        for step in range(1, 7):
            touch("touchMove", (x - 20 - 10 * step, y), (x + 20 + 10 * step, y))
        touch("touchEnd")
        assert int(page.locator("#zoom-fit").inner_text().removesuffix(" %")) > 200


def test_a_box_is_fitted_and_clicks_correct_it(page: Any, tmp_path: Path) -> None:
    picture = np.full((120, 212, 3), (200, 30, 30), np.uint8)
    picture[32:88, 72:128] = (30, 200, 30)
    write_video(tmp_path / "block.mp4", [picture] * NUM_FRAMES, 24)
    _open(page, tmp_path / "block.mp4")
    _choose(page, "select")
    assert page.locator("#fit").is_checked()
    _stroke(page, (60, 22), (140, 98))
    _shows(page, 0, "Object 1")
    fitted = _shares(page)["Object 1"]
    assert abs(fitted - 100 * 56 * 56 / (120 * 212)) < 2.5
    with page.expect_response("**/edit") as answer:
        page.mouse.click(*_at(page, 66, 28), button="right")
    assert answer.value.json()["touched"] == [0]
    page.get_by_role("radio", name="Take away").click()
    with page.expect_response("**/edit") as answer:
        page.mouse.click(*_at(page, 134, 92))
    assert page.evaluate("fetch(`/api/projects/${location.hash.slice(1)}/frames/0`).then((answer) => answer.json())")[
        "prompts"
    ]["1"]["clicks"] == [
        [pytest.approx(66, abs=1), pytest.approx(28, abs=1), 0],
        [pytest.approx(134, abs=1), pytest.approx(92, abs=1), 0],
    ]
    for _ in range(3):
        page.click("#undo")
    page.locator("#undo:disabled").wait_for()
    _shows(page, 0, "no labels")
    page.get_by_role("radio", name="Add").click()
    with page.expect_response("**/edit") as answer:
        page.mouse.click(*_at(page, 100, 60))
    _shows(page, 0, "Object 1")
    assert "Done:" in _propagate(page)
    page.select_option("#format", "yolo.zip")
    with page.expect_download() as download:
        page.click("#get-format")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len([name for name in archive.namelist() if name.endswith(".txt")]) == NUM_FRAMES


def test_it_is_used_by_keyboard_alone(page: Any, clip: Path) -> None:
    _open(page, clip)
    page.locator("#fit").uncheck()
    page.locator("body").click(position={"x": 400, "y": 10})
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "stage":
            break
    else:
        pytest.fail("the stage cannot be reached with the Tab key")
    page.keyboard.press("x")
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "x"):
        page.keyboard.press(key)
    _shows(page, 0, "Object 1 0.9 %")
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Done:").wait_for()
    page.keyboard.press("End")
    _shows(page, NUM_FRAMES - 1, "Object 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_and_contrast(browser: Any, address: str, clip: Path, scheme: str) -> None:
    with opened(browser, address, color_scheme=scheme, bypass_csp=True) as page:
        _open(page, clip)
        _box(page, (100, 40), (130, 70))
        nameless, faint = page.evaluate(ACCESS)
        assert not nameless
        assert not faint


ACCESS = r"""() => {
  const seen = (element) => element.checkVisibility() && element.getClientRects().length;
  const name = (element) => element.ariaLabel || element.labels?.[0]?.innerText || element.innerText || element.title;
  const nameless = [...document.querySelectorAll('button, input, select, canvas, a, progress, img')]
    .filter((element) => seen(element) && !element.closest('[aria-hidden=true]') && !name(element)?.trim())
    .map((element) => element.outerHTML.slice(0, 120));
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = rgb(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !seen(element) || element.matches(':disabled, :disabled *, .unseen, option')) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${element.outerHTML.slice(0, 80)}: ${ratio.toFixed(2)}`);
  }
  return [nameless, faint];
}"""
