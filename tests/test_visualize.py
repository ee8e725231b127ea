"""What a model sees, as maps and pictures: attention of the CLS token, and where a point is in another frame."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.cli import main
from siammae.encoder import Encoder
from siammae.video import read_image
from siammae.visualize import attention_maps, contact_sheet, correspondence, draw_heat

Picture = NDArray[np.uint8]


@pytest.fixture
def folder(texture: Picture, tmp_path: Path) -> Path:
    """Three frames of 64 x 96 pixels: a window that moves 16 pixels to the right and 8 down over the texture, each time."""
    for index in range(3):
        window = texture[8 * index : 8 * index + 64, 16 * index : 16 * index + 96]
        Image.fromarray(window).save(tmp_path / f"{index}.png")
    return tmp_path


def test_attention_is_at_the_frame_s_size_and_shared_out(texture: Picture, encoder: Encoder) -> None:
    maps = attention_maps(texture[:100, :150], encoder, size=(96, 144))
    assert maps.shape == (3, 100, 150)
    assert maps.min() >= 0
    total = maps.mean(axis=(1, 2)) * 6 * 9  # cells
    assert np.all((total > 0.8) & (total <= 1.02))  # the CLS token has the rest
    first = attention_maps(texture[:100, :150], encoder, size=(96, 144), layer=0)
    assert np.abs(first - maps).max() > 1e-6


def test_points_are_found_where_they_went(folder: Path, colours: Encoder) -> None:
    frames = sorted(folder.glob("*.png"))
    matches, similarities = correspondence(frames[0], [[51.5, 35.5], [75.5, 27.5]], frames[1], colours, size=64)
    assert matches == pytest.approx(np.array([[35.5, 27.5], [59.5, 19.5]]))
    assert similarities.shape == (2, 64, 96)
    assert similarities.max() <= 1 + 1e-5
    for (x, y), plane in zip(matches, similarities, strict=True):
        assert plane[int(y), int(x)] > 0.8 > np.median(plane)


def test_frames_of_a_pair_may_differ_in_size(texture: Picture, colours: Encoder) -> None:
    matches, similarities = correspondence(texture[:64, :64], [[11.5, 19.5]], texture[:64, :128], colours, size=64)
    assert matches == pytest.approx(np.array([[11.5, 19.5]]))
    assert similarities.shape == (1, 64, 128)


def test_points_that_cannot_be(texture: Picture, colours: Encoder) -> None:
    with pytest.raises(ValueError, match=r"points have shape \[2\]; expected \[K, 2\]"):
        correspondence(texture, [3, 4], texture, colours)
    with pytest.raises(ValueError, match=r"\[\[300\.0, 4\.0\]\] are not all inside the frame of 256 x 256"):
        correspondence(texture, [[300, 4]], texture, colours)


def test_heat_goes_from_violet_to_yellow() -> None:
    frame = np.full((1, 3, 3), 90, dtype=np.uint8)
    cold, warm, hot = draw_heat(frame, np.array([[-1.0, 0.0, 1.0]]), opacity=1)[0].tolist()
    assert (cold, warm, hot) == ([68, 1, 84], [33, 145, 140], [253, 231, 37])
    assert np.array_equal(draw_heat(frame, np.zeros((1, 3)), opacity=0), frame)


def test_a_contact_sheet_has_rows() -> None:
    pictures = [np.full((5, 7, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(pictures, columns=2)
    assert sheet.shape == (5 + 4 + 5, 7 + 4 + 7, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((2, 3), (2, 14), (11, 3), (11, 14), (2, 8))] == [10, 20, 30, 255, 255]


def test_the_commands_draw_pictures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for path in folder.glob("*.png"):
        path.rename(frames / path.name)
    command = [
        "siammae",
        "correspondence",
        str(frames),
        "51.5",
        "35.5",
        "-o",
        str(tmp_path / "points.png"),
        "--others",
        "1",
        "2",
    ]
    monkeypatch.setattr("sys.argv", [*command, "--size", "64"])
    main()
    printed = capsys.readouterr().out
    assert "frame 1: x 35.5, y 27.5, cosine similarity" in printed
    assert read_image(tmp_path / "points.png").size == (3 * 96 + 8, 64)
    monkeypatch.setattr(
        "sys.argv", ["siammae", "attention", str(frames), "-o", str(tmp_path / "attention.jpg"), "--frame", "2"]
    )
    main()
    assert "3 heads" in capsys.readouterr().out
    assert read_image(tmp_path / "attention.jpg").size == (4 * 96 + 12, 64)
    for extra, message in (
        (["--frame", "7"], "has only 3 frames; frame 7"),
        (["--frame", "-1"], "expected the number of a frame"),
    ):
        monkeypatch.setattr("sys.argv", ["siammae", "attention", str(frames), "-o", str(tmp_path / "a.png"), *extra])
        with pytest.raises(SystemExit):
            main()
        assert message in capsys.readouterr().err
