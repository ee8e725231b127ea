"""Pictures of frames: the one that is asked for, and those around it that are made meanwhile."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siammae.app import views
from siammae.app.views import Views
from siammae.errors import VideoError
from tests.films import distance, picture, write

NUM_FRAMES = 40


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write(path, [picture(i) for i in range(NUM_FRAMES)], options={"g": "10"})


def _shows(data: bytes, index: int) -> bool:
    shown = np.array(Image.open(io.BytesIO(data)))
    return min(range(NUM_FRAMES), key=lambda number: distance(shown, picture(number))) == index


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_done(shown: Views) -> bool:
    return shown._maker is not None and not shown._maker.is_alive()


def test_frames_come_in_any_order(film: Path) -> None:
    shown = Views(film, lambda: False)
    for index in (0, 25, 26, 30, 3, 39, 2):
        assert _shows(shown.jpeg(index), index)
    assert set(shown._kept) == {0, 25, 26, 30, 3, 39, 2}
    shown.close()


def test_the_other_frames_are_made_once_one_was_looked_at(film: Path) -> None:
    shown = Views(film)
    shown.jpeg(20)
    _wait(lambda: len(shown._kept) == NUM_FRAMES)
    assert all(_shows(shown._kept[index], index) for index in range(NUM_FRAMES))
    shown.close()


def test_memory_holds_the_nearest_frames(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Views(film)
    monkeypatch.setattr(views, "MAX_BYTES", 8 * len(shown.jpeg(30)))
    for at in (30, 10):
        shown.jpeg(at)
        _wait(lambda: _is_done(shown))
        assert at in shown._kept
        assert max(abs(index - at) for index in shown._kept) <= 8
        assert shown._num_bytes == sum(map(len, shown._kept.values())) <= views.MAX_BYTES
    shown.close()


def test_what_is_more_important_comes_first(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "REST", 0.0)
    free = False
    shown = Views(film, lambda: free)
    shown.jpeg(20)
    time.sleep(0.3)
    assert set(shown._kept) == {20}
    free = True
    _wait(lambda: len(shown._kept) == NUM_FRAMES)
    shown.close()


def test_nothing_is_made_after_the_end(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "REST", 0.0)
    shown = Views(film, lambda: len(shown._kept) < 5)
    shown.jpeg(0)
    _wait(lambda: len(shown._kept) == 5)
    shown.close()
    assert _is_done(shown)
    assert shown._reader._pictures is None


def test_damage_is_told_where_it_is_looked_at(tmp_path: Path) -> None:
    write(
        tmp_path / "index.mp4",
        [picture(i) for i in range(NUM_FRAMES)],
        options={"g": "10"},
        container={"movflags": "faststart"},
    )
    broken = bytearray((tmp_path / "index.mp4").read_bytes())
    place = int(0.7 * len(broken))
    broken[place : place + 4000] = bytes(4000)
    (tmp_path / "broken.mp4").write_bytes(broken)
    shown = Views(tmp_path / "broken.mp4")
    assert _shows(shown.jpeg(0), 0)
    _wait(lambda: _is_done(shown))
    assert _shows(shown.jpeg(5), 5)
    with pytest.raises(VideoError, match="damaged"):
        list(map(shown.jpeg, range(20, 35)))
    shown.close()


def test_large_frames_are_reduced(tmp_path: Path) -> None:
    write(tmp_path / "large.mp4", [picture(i, 90, 1600) for i in range(3)])
    shown = Views(tmp_path / "large.mp4")
    reduced = Image.open(io.BytesIO(shown.jpeg(1)))
    assert reduced.size == (1280, 72)
    assert distance(reduced, Image.fromarray(picture(1, 90, 1600)).resize((1280, 72), Image.Resampling.BOX)) < 5
    shown.close()
