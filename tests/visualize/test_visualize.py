"""Pictures for people: overlays and trails, and what a model sees: attention, correspondence, features as colours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from siammae.cli import main
from siammae.encoder import Encoder
from siammae.labels import as_mask
from siammae.video import read_image
from siammae.visualize import (
    FeatureColors,
    attention_maps,
    before_after,
    contact_sheet,
    correspondence,
    draw_heat,
    draw_keypoints,
    draw_trails,
    overlay,
)

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


def written(ids: NDArray[np.int64], height: int = 61, width: int = 97) -> NDArray[np.bool_]:
    """The pixels [H, W] that numbers change in an overlay."""
    frame = np.full((height, width, 3), 120, dtype=np.uint8)
    changed: NDArray[np.bool_] = (overlay(frame, ids, numbers=True) != overlay(frame, ids)).any(axis=2)
    return changed


def test_ids_are_written_inside_their_objects() -> None:
    ring = np.zeros((61, 97), dtype=np.int64)
    ring[5:56, 3:60] = 7
    ring[18:43, 16:47] = 0  # its mean is outside of it
    ring[20:50, 65:95] = 300
    changed = written(ring)
    assert not changed[ring == 0].any()
    assert changed[ring == 7].any()
    assert changed[ring == 300].any()
    thin = np.zeros((61, 97), dtype=np.int64)
    thin[:, 30] = 1  # no room in it: the middle of the number is on it
    columns = np.nonzero(written(thin))[1]
    assert abs((columns.min() + columns.max()) / 2 - 30) <= 1.5


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_ids_are_readable_on_any_colour(shade: int) -> None:
    frame = np.full((50, 70, 3), shade, dtype=np.uint8)
    ids = np.ones((50, 70), dtype=bool)
    pixels = overlay(frame, ids, palette=[0, 0, 0, shade, shade, shade], numbers=True)[5:-5, 5:-5].astype(int)
    assert pixels.max() - pixels.min() > 200  # white with a black edge


@pytest.mark.parametrize("width", [0, 1, 3])
def test_an_outline_is_so_many_pixels_wide(width: int) -> None:
    ids = np.zeros((20, 30), dtype=np.uint8)
    ids[2:18, 3:14], ids[5:15, 14:27] = 1, 2  # side by side
    plain = overlay(np.zeros((20, 30, 3), dtype=np.uint8), ids, outline=0)
    changed = (overlay(np.zeros((20, 30, 3), dtype=np.uint8), ids, outline=width) != plain).any(axis=2)
    padded = np.pad(ids, width, mode="edge")
    for y, x in np.argwhere(ids):
        rows, columns = padded[y : y + 2 * width + 1, x + width], padded[y + width, x : x + 2 * width + 1]
        near = len({*rows.tolist(), *columns.tolist()}) > 1
        assert changed[y, x] == near, (y, x)
    assert not changed[ids == 0].any()


def test_an_outline_is_not_negative() -> None:
    with pytest.raises(ValueError, match="outline is -1; expected a width in pixels, 0 or more"):
        overlay(np.zeros((4, 4, 3), dtype=np.uint8), np.ones((4, 4), dtype=np.uint8), outline=-1)


def test_an_overlay_without_objects_is_the_frame(texture: Picture) -> None:
    frame = texture[:33, :45]
    assert np.array_equal(overlay(frame, np.zeros((33, 45), dtype=np.uint8), numbers=True), frame)
    with pytest.raises(ValueError, match=r"ids have shape \[45, 33\]; expected \[33, 45\]"):
        overlay(frame, np.zeros((45, 33), dtype=np.uint8))


def test_trails_fade_and_break_where_a_point_is_lost() -> None:
    frame = np.full((41, 99, 3), 20, dtype=np.uint8)
    way = np.array([[8, 20], [24, 20], [40, 20], [np.nan, np.nan], [56, 20], [72, 20], [90, 20]])
    tracks = np.stack([way, np.full_like(way, np.nan)], axis=1)  # the other point is never seen
    drawn = draw_trails(frame, tracks, radius=2).astype(int)
    red = drawn[20, :, 0] - 20
    assert 0 < red[16] < red[32] < red[64] < red[80]  # the newest is the strongest
    assert np.array_equal(drawn[:, 44:53], frame[:, 44:53])
    assert np.array_equal(drawn[:12], frame[:12])
    disc = draw_keypoints(frame, tracks[-1], radius=2)
    changed = (disc != frame).any(axis=2)
    assert np.array_equal(drawn[changed], disc[changed])
    assert np.array_equal(draw_trails(frame, tracks[-1:], radius=2), disc)
    with pytest.raises(ValueError, match=r"tracks have shape \[7, 2\]; expected \[T, K, 2\]"):
        draw_trails(frame, way)


def test_everything_is_drawn_over_any_frame_with_any_mask(texture: Picture, tmp_path: Path) -> None:
    pixels, ids = texture[:30, :40], np.zeros((30, 40), np.uint8)
    ids[5:20, 8:30], points = 2, np.array([[9.0, 12.0], [30.5, 20.0]])
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    Image.fromarray(ids).save(tmp_path / "mask.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    frames: list[Any] = [pixels, tensor, tensor / 255, pixels / 255, Image.fromarray(pixels), tmp_path / "frame.png"]
    masks: list[Any] = [ids, torch.from_numpy(ids), Image.fromarray(ids), tmp_path / "mask.png", as_mask(ids)]
    tinted = overlay(pixels, ids, numbers=True)
    assert all(np.array_equal(overlay(pixels, mask, numbers=True), tinted) for mask in masks)
    expected = before_after([pixels], [ids])
    assert all(np.array_equal(before_after([frame], [mask]), expected) for frame in frames for mask in masks)
    for draw in (
        lambda frame: overlay(frame, ids),
        lambda frame: draw_keypoints(frame, points),
        lambda frame: draw_keypoints(frame, torch.from_numpy(points)),
        lambda frame: draw_trails(frame, [points, points + 3]),
        lambda frame: draw_heat(frame, ids),
        lambda frame: contact_sheet([frame, frame], columns=2),
    ):
        expected = draw(pixels)
        assert (expected != np.resize(pixels, expected.shape)).any()
        assert all(np.array_equal(draw(frame), expected) for frame in frames)
    assert np.array_equal(pixels, texture[:30, :40])
    assert np.array_equal(draw_keypoints(pixels, torch.from_numpy(points)), draw_keypoints(pixels, points))


def test_colours_of_features_are_stable() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(5, 7, 6, 11, generator=generator) * torch.tensor([9, 4, 2, 1, 1, 1, 1])[:, None, None]
    colours = FeatureColors(features)
    pictures = colours(features, (37, 53))
    assert (pictures.shape, pictures.dtype) == ((5, 37, 53, 3), np.uint8)
    assert np.array_equal(colours(features[3:4], (37, 53))[0], pictures[3])  # alone as among others
    assert np.array_equal(FeatureColors(features.clone())(features, (37, 53)), pictures)
    flat = colours(features, (6, 11))  # the strongest channel is red, but for its sign; the second is green
    for channel in (0, 1):
        values, shades = features[:, channel].flatten().numpy(), flat[..., channel].ravel().astype(float)
        assert np.corrcoef(values, shades)[0, 1] > 0.9
    assert np.mean(flat == 0) == pytest.approx(0.01, abs=0.006)  # the range leaves out the 1st and the last percentile
    assert np.mean(flat == 255) == pytest.approx(0.01, abs=0.006)


def test_features_that_cannot_be_coloured() -> None:
    features = torch.randn(2, 5, 3, 4)
    for wrong in (features[0], features[:, :2], features[:0]):
        with pytest.raises(ValueError, match=r"expected \[T, D, h, w\] with at least 3 channels"):
            FeatureColors(wrong)
    with pytest.raises(ValueError, match="not all finite"):
        FeatureColors(features / 0)
    with pytest.raises(ValueError, match=r"shape \[2, 4, 3, 4\]; expected \[T, 5, h, w\]"):
        FeatureColors(features)(features[:, :4], (9, 9))
    even = torch.full((2, 5, 3, 4), 0.3)  # nothing varies: grey
    assert np.ptp(FeatureColors(even)(even, (5, 7)).astype(int) - 127) <= 1


def test_a_strip_shows_a_clip_from_its_first_to_its_last_frame(texture: Picture) -> None:
    frames = [texture[i : i + 21, : 2 * 17] for i in range(10)]
    masks = [np.full((21, 34), i, dtype=np.uint8) for i in range(10)]
    strip = before_after(frames, masks, columns=3)
    assert strip.shape == (2 * 21 + 4, 3 * 34 + 8, 3)
    for column, i in enumerate((0, 4, 9)):
        left = column * 38
        assert np.array_equal(strip[:21, left : left + 34], frames[i])
        assert np.array_equal(strip[25:, left : left + 34], overlay(frames[i], masks[i]))
    assert before_after(frames[:2], masks[:2]).shape == (46, 2 * 34 + 4, 3)
    with pytest.raises(ValueError, match="10 frames and 9 masks"):
        before_after(frames, masks[:9])
    with pytest.raises(ValueError, match="columns is 0"):
        before_after(frames, masks, columns=0)


def test_the_commands_draw_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for path in folder.glob("*.png"):
        path.rename(frames / path.name)
    command = [
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
    main([*command, "--model", "vitt8d6", "--size", "64"])
    printed = capsys.readouterr().out
    assert "frame 1: x 35.5, y 27.5, cosine similarity" in printed
    assert read_image(tmp_path / "points.png").size == (3 * 96 + 8, 64)
    main(["attention", str(frames), "-o", str(tmp_path / "attention.jpg"), "--frame", "2", "--model", "vitt8d6"])
    assert "3 heads" in capsys.readouterr().out
    assert read_image(tmp_path / "attention.jpg").size == (4 * 96 + 12, 64)
    for extra, message in (
        (["--frame", "7"], "holds only 3 frames; frame 7"),
        (["--frame", "-1"], "expected the number of a frame"),
    ):
        with pytest.raises(SystemExit):
            main(["attention", str(frames), "-o", str(tmp_path / "a.png"), *extra])
        assert message in capsys.readouterr().err
