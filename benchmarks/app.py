"""Measure how long a person waits for `siammae app` and for the command line.

    python benchmarks/app.py [--model NAME] [--json OUT]

The app runs in a process of its own, and Chromium uses its page. Two films are made first: a phone's (9 seconds, 1080 x 1920,
HEVC with a key frame a second, as phones write them) and one of 480 x 854. Prints a table: the median of the seconds until the
page shows what was asked for, the time that 95 % do not exceed, the aim, and the seconds of processor time that the app spent
meanwhile, on average, also on what nobody waits for. It needs playwright and a chromium.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from siammae.models.registry import DEFAULT_MODEL
from siammae.synthetic import render_clip
from siammae.video import write_video

COMMAND = [sys.executable, "-m", "siammae"]
BROWSER = ["chromium", "chromium-browser", "google-chrome"]
SECONDS, FPS, WIDTH, HEIGHT = 9, 30, 1080, 1920
PHONE = {"preset": "ultrafast", "x265-params": f"log-level=none:keyint={FPS}:min-keyint={FPS}:scenecut=0:bframes=2:wpp=0"}
BIT_RATE = 8_000_000
CLIP = 480, 854
NUM_FRAMES = 36
REST = 4.0  # seconds after which a frame is prepared for boxes
SHOWN = """([number, holds]) => new Promise((resolve) => {
  const stage = document.getElementById('stage');
  const look = () => {
    const label = stage.getAttribute('aria-label');
    if (label.startsWith(`Frame ${number} of`) && label.includes(holds)) resolve();
    else requestAnimationFrame(look);
  };
  if (!holds) {
    document.getElementById('frame').value = number;
    document.getElementById('frame').dispatchEvent(new Event('input'));
  }
  look();
})"""


class Table:
    """The rows of the result."""

    def __init__(self) -> None:
        self.app: psutil.Process | None = None  # the process whose time counts, besides those that were waited for
        self.rows: list[dict[str, Any]] = []

    def measure(
        self,
        what: str,
        aim: float | None,
        times: int,
        act: Callable[[int], object],
        before: Callable[[int], object] | None = None,
    ) -> None:
        """Time `act` so many times, each after `before`; both are told which time it is."""
        seconds, busy = [], 0.0
        for turn in range(times):
            if before is not None:
                before(turn)
            started, spent = time.perf_counter(), self._processor()
            act(turn)
            seconds.append(time.perf_counter() - started)
            busy += self._processor() - spent
        late = float(np.quantile(seconds, 0.95))
        row = {"what": what, "times": times, "median": statistics.median(seconds), "late": late, "aim": aim}
        self.rows.append({**row, "processor": busy / times})
        print(f"{what}: {row['median']:.2f} s, 95 % {late:.2f}", file=sys.stderr, flush=True)

    def _processor(self) -> float:
        spent = psutil.Process().cpu_times()
        seconds = spent.children_user + spent.children_system
        if self.app is not None:
            spent = self.app.cpu_times()
            seconds += spent.user + spent.system
        return float(seconds)

    def print(self) -> None:
        print("| what | times | median s | 95 % s | aim s | processor s |\n|---|---|---|---|---|---|")
        for row in self.rows:
            aim = "-" if row["aim"] is None else row["aim"]
            figures = " | ".join(f"{row[name]:.2f}" for name in ("median", "late"))
            print(f"| {row['what']} | {row['times']} | {figures} | {aim} | {row['processor']:.2f} |")


def write_phone_film(path: Path) -> None:
    """Write a film as a phone does: a hand that trembles over a scene with grain. Every second is the same one."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (HEIGHT // 24, WIDTH // 24, 3), dtype=np.uint8)
    scene = (
        av.VideoFrame.from_ndarray(coarse)
        .reformat(width=WIDTH + 120, height=HEIGHT + 120, interpolation="BICUBIC")
        .to_ndarray()
    )
    grain = random.integers(-6, 7, (4, *scene.shape[:2], 1), dtype=np.int16)
    scenes = [(scene + part).clip(0, 255).astype(np.uint8) for part in grain]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=FPS, options=PHONE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", BIT_RATE
        second: list[Any] = []
        for number in range(FPS):
            left, top = (int(60 + 50 * np.sin(number / pace)) for pace in (3, 5))
            part = np.ascontiguousarray(scenes[number % len(scenes)][top : top + HEIGHT, left : left + WIDTH])
            second += stream.encode(av.VideoFrame.from_ndarray(part))
        second += stream.encode(None)
        length = round(1 / second[0].time_base)
        for copy in range(SECONDS):
            for packet in second:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base, again.is_keyframe = stream, packet.time_base, packet.is_keyframe
                again.pts, again.dts = packet.pts + copy * length, packet.dts + copy * length
                container.mux(again)


@contextmanager
def served(model: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the app; yields its address and its process."""
    command = [*COMMAND, "app", "--port", "0", "--no-browser", "--model", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        address = re.search(r"http://\S+", app.stdout.readline())
        if address is None:
            raise SystemExit("the app did not start; its message stands above")
        try:
            yield address.group(), psutil.Process(app.pid)
        finally:
            app.terminate()


def drag(page: Any, corners: list[tuple[float, float]]) -> None:
    """Drag a box with the mouse; corners are pixels of the clip."""
    area, (height, width) = page.locator("#stage").bounding_box(), CLIP
    scale = min(area["width"] / width, area["height"] / height)
    left, top = area["x"] + (area["width"] - width * scale) / 2, area["y"] + (area["height"] - height * scale) / 2
    for act, (x, y) in zip((page.mouse.down, page.mouse.up), corners, strict=True):
        page.mouse.move(left + x * scale, top + y * scale)
        act()


def use_app(table: Table, page: Any, phone: Path, clip: Path, corners: list[list[tuple[float, float]]]) -> None:
    """Open both films, scrub, and draw boxes."""
    random = np.random.default_rng(1)
    numbers = [random.permutation(SECONDS * FPS - 1)[:40] + 1 for _ in range(2)]

    def open_film(film: Path, num_frames: int) -> None:
        page.set_input_files("#file", film)
        page.locator(f"#stage[aria-label^='Frame 0 of {num_frames - 1}:']").wait_for()

    def leave(turn: int) -> None:
        if turn:
            page.click("#home")
            page.locator("#file:enabled").wait_for(state="attached")

    def look(number: int, holds: str = "") -> None:
        page.evaluate(SHOWN, [int(number), holds])

    def begin_box(turn: int, rest: float = 0.0) -> None:
        page.click("#add")
        page.locator(f"#objects li.chosen[data-number='{turn + (6 if rest else 2)}']").wait_for()
        look(frame_of(turn, rest))
        time.sleep(rest)

    def frame_of(turn: int, rest: float = 0.0) -> int:
        return 4 * turn + (3 if rest else 1)

    def box(turn: int, rest: float = 0.0) -> None:
        drag(page, corners[frame_of(turn, rest)])
        look(frame_of(turn, rest), "Object")

    table.measure("first frame of a phone's film", 2.0, 3, lambda _: open_film(phone, SECONDS * FPS), leave)
    table.measure("a random frame of it, at once", 0.2, 40, lambda turn: look(numbers[0][turn]))
    table.measure("the next frame", 0.2, 10, lambda turn: look(101 + turn), lambda turn: turn or look(100))
    time.sleep(15)
    table.measure("a random frame of it, a while later", 0.2, 40, lambda turn: look(numbers[1][turn]))
    leave(1)
    open_film(clip, NUM_FRAMES)
    table.measure("a fitted box at 480p, the frame just shown", 1.5, 4, box, begin_box)
    table.measure(
        "a fitted box at 480p, the frame prepared", 1.5, 4, lambda turn: box(turn, REST), lambda turn: begin_box(turn, REST)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSER)), None)
    if browser is None:
        raise SystemExit(f"no browser found; expected one of {', '.join(BROWSER)}")
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        phone, clip, rendered = Path(folder) / "phone.mp4", Path(folder) / "clip.mp4", render_clip(NUM_FRAMES, CLIP)
        write_phone_film(phone)
        write_video(clip, rendered.frames, 24)
        corners = [box_around(mask == 1) for mask in rendered.masks]
        missing = [*COMMAND, "propagate", str(Path(folder) / "missing.mp4"), str(Path(folder) / "mask.png"), "-o", folder]
        table.measure("siammae --help", 0.5, 5, lambda _: run([*COMMAND, "--help"]))
        table.measure("a missing file is reported", 1.0, 5, lambda _: run(missing))
        with served(options.model) as (address, app), sync_playwright() as playwright:
            table.app = app
            running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
            page = running.new_page(viewport={"width": 1440, "height": 900})
            page.on("dialog", lambda dialog: dialog.accept())
            page.goto(address)
            use_app(table, page, phone, clip, corners)
            running.close()
    table.print()
    if options.json:
        options.json.write_text(json.dumps(table.rows, indent=2) + "\n")


def run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=False)


def box_around(mask: Any) -> list[tuple[float, float]]:
    """Return the corners (x, y) of a box around a mask [H, W], with some margin."""
    rows, columns = np.nonzero(mask)
    return [(float(columns.min() - 4), float(rows.min() - 4)), (float(columns.max() + 4), float(rows.max() + 4))]


if __name__ == "__main__":
    main()
