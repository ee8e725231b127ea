"""Results are written whole or not at all, and what is written reads back as what was meant; drawings show what they should."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FullDisk
from numpy.typing import NDArray
from PIL import Image

from siammae.features import write_features
from siammae.files import atomic, atomic_folder, locked, remove_drafts
from siammae.labels import as_mask, davis_palette, read_points, write_mask, write_tracks
from siammae.video import read_frames, write_picture, write_video
from siammae.visualize import draw_keypoints, overlay

Picture = NDArray[np.uint8]


def picture(index: int, height: int = 48, width: int = 64) -> Picture:
    """A smooth picture [H, W, 3] with a bright square that moves with `index`."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([60 + 2 * x, 80 + 2 * y, np.full_like(x, 90)], axis=-1).clip(0, 255).astype(np.uint8)
    pixels[8:20, 4 + 3 * index : 16 + 3 * index] = [230, 200, 40]
    return pixels


def interrupted(pictures: list[Picture]) -> Iterator[Picture]:
    yield from pictures
    raise KeyboardInterrupt


def write_any(path: Path) -> None:
    """Something valid into a file of the kind that its suffix names."""
    if path.suffix == ".png":
        write_mask(path, np.arange(12).reshape(3, 4))
    elif path.suffix == ".csv":
        write_tracks(path, np.zeros((2, 3, 2)), np.ones((2, 3)))
    elif path.suffix in {".npy", ".safetensors"}:
        write_features(path, torch.zeros(2, 3, 4, 5))
    else:
        write_video(path, [picture(0), picture(1)], 25)


KINDS = ["m.png", "k.csv", "f.npy", "f.safetensors", "v.mp4", "v.gif"]


def test_an_atomic_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic(target) as draft:
        draft.write_text("new")
        assert draft.parent == target.parent
        assert draft.suffix == target.suffix
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_no_draft_and_the_old_file_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail_half_way() -> None:
        with atomic(target) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_an_interrupted_video_leaves_nothing_new(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / name, interrupted([picture(0), picture(1)]), 25)
    assert os.listdir(tmp_path) == []
    write_any(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / name, interrupted([]), 25)
    assert (tmp_path / name).read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_drafts_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    write_mask(tmp_path / "00001.png", np.ones((3, 4), int))
    with atomic(tmp_path / "00002.png") as draft:
        abandoned = draft.name
        draft.write_text("")
    (tmp_path / "00002.png").rename(tmp_path / abandoned)
    (tmp_path / ".hidden.png").write_text("the user's own")
    remove_drafts(tmp_path)
    assert abandoned in os.listdir(tmp_path)  # another process may be writing it at this moment
    os.utime(tmp_path / abandoned, (0, 0))
    remove_drafts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden.png", "00001.png"]


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_that_cannot_be_written_to_is_an_os_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    for folder in ("file", "absent"):
        with pytest.raises(OSError, match=r"Not a directory|No such file|there is no folder"):
            write_any(tmp_path / folder / name)
    assert os.listdir(tmp_path) == ["file"]


def write_much(path: Path) -> None:
    """As `write_any`, more than 8,000 bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 96, 96, 3), dtype=np.uint8)
    if path.suffix == ".png":
        write_mask(path, noise[0].reshape(96, -1))
    elif path.suffix == ".csv":
        write_tracks(path, np.zeros((500, 9, 2)), np.zeros((500, 9)))
    elif path.suffix in {".npy", ".safetensors"}:
        write_features(path, torch.zeros(4, 9, 30, 30))
    else:
        write_video(path, iter(noise), 25)


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_is_an_os_error_and_leaves_the_old_file_whole(tmp_path: Path, full_disk: FullDisk, name: str) -> None:
    (tmp_path / name).write_text("old")
    with full_disk(8000), pytest.raises(OSError, match=r"File too large|written"):
        write_much(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "old"


def test_masks_are_indexed_pictures_with_the_palette_asked_for(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 256, (17, 23))
    write_mask(tmp_path / "davis.png", ids)
    own = list(range(255, -1, -1)) * 3
    write_mask(tmp_path / "own.png", ids, own)
    for name, palette in (("davis", davis_palette().ravel().tolist()), ("own", own)):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.array(image), ids)
            assert image.getpalette() == palette
        assert as_mask(tmp_path / f"{name}.png").palette == palette
    assert davis_palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_large_ids_are_kept_in_sixteen_bits(tmp_path: Path, dtype: Any) -> None:
    ids = np.array([[0, 1, 255], [256, 1000, 65535]]).astype(dtype)
    write_mask(tmp_path / "large.png", ids)
    assert np.array_equal(as_mask(tmp_path / "large.png").values, ids)


@pytest.mark.parametrize("wrong", [-1, 65536])
def test_ids_that_no_png_can_hold_are_refused(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"ids run from .*{wrong}.*; a PNG holds 0 to 65535"):
        write_mask(tmp_path / "m.png", np.array([[0, wrong]]))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["v.mp4", "v.gif", "v.MP4"])
@pytest.mark.parametrize("fps", [10, 25])
def test_videos_read_back_in_number_rate_and_colours(tmp_path: Path, name: str, fps: float) -> None:
    pictures = [picture(index) for index in range(9)]
    write_video(tmp_path / name, iter(pictures), fps)
    source = read_frames(tmp_path / name)
    assert source.fps == pytest.approx(fps, rel=0.02)
    found = [frame.permute(1, 2, 0).numpy() for frame in source]
    assert len(found) == 9
    for wanted, pixels in zip(pictures, found, strict=True):
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(int) - wanted).mean() < 5
        assert np.abs(pixels[11:17, :].astype(int) - wanted[11:17]).mean() < 6  # rows that the square crosses


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_any_frame_is_written_as_the_same_picture(tmp_path: Path, name: str) -> None:
    pixels = [picture(index) for index in range(6)]
    tensor = torch.from_numpy(pixels[1]).permute(2, 0, 1)
    Image.fromarray(pixels[4]).save(tmp_path / "four.png")
    mixed = [pixels[0], tensor, pixels[2] / 255, Image.fromarray(pixels[3]), tmp_path / "four.png"]
    mixed.append(torch.from_numpy(pixels[5]).permute(2, 0, 1) / 255)
    for target, frames in (("arrays", pixels), ("any", mixed)):
        write_video(tmp_path / f"{target}-{name}", frames, 25)
    written = [list(read_frames(tmp_path / f"{target}-{name}")) for target in ("arrays", "any")]
    for one, other in zip(*written, strict=True):  # not the bytes: x264's rate control depends on how its threads run
        assert (one.int() - other.int()).abs().float().mean() < 1
    for index, frame in enumerate(mixed):
        write_picture(tmp_path / "one.png", frame)
        assert np.array_equal(np.array(Image.open(tmp_path / "one.png")), pixels[index])


def test_frames_that_cannot_be_written_are_numbered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"frame 1 has shape \[48, 64, 2\]; expected \[H, W, 3\], RGB"):
        write_video(tmp_path / "v.mp4", [picture(0), picture(1)[..., :2]], 25)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fps", [30000 / 1001, 29.97, 12.5])
def test_fractional_rates_of_mp4_are_kept(tmp_path: Path, fps: float) -> None:
    write_video(tmp_path / "v.mp4", [picture(index) for index in range(5)], fps)
    assert read_frames(tmp_path / "v.mp4").fps == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "fps", "written"),
    [
        ("v.mp4", 1 / 2003, 1 / 2003),
        ("v.mp4", 1e-9, 1e-4),
        ("v.mp4", 1e6, 1e4),
        ("v.gif", 1 / 600, 1 / 600),
        ("v.gif", 1e-9, 100 / 65535),
        ("v.gif", 120, 100),
        ("v.gif", 1e6, 100),
    ],
)
def test_a_rate_that_a_container_cannot_hold_becomes_the_nearest_with_a_warning(
    tmp_path: Path, name: str, fps: float, written: float
) -> None:
    if fps == written:
        write_video(tmp_path / name, [picture(index) for index in range(40)], fps)
    else:
        message = re.escape(f"{fps:g} is written as {written:.4g}")
        with pytest.warns(UserWarning, match=rf"{name[1:]} files hold .* frames per second; {message}"):
            write_video(tmp_path / name, [picture(index) for index in range(40)], fps)
    source = read_frames(tmp_path / name)
    assert len(list(source)) == 40
    assert source.fps == pytest.approx(written, rel=1e-3)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_no_positive_number_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number of frames per second"):
        write_video(tmp_path / "v.mp4", [picture(0)], fps)
    assert os.listdir(tmp_path) == []


def test_odd_sizes_are_padded_for_mp4_and_kept_for_gif(tmp_path: Path) -> None:
    odd = picture(0, 37, 53)
    for name, size in (("v.mp4", (38, 54)), ("v.gif", (37, 53))):
        write_video(tmp_path / name, [odd, odd], 25)
        frames = list(read_frames(tmp_path / name))
        assert [tuple(frame.shape[1:]) for frame in frames] == [size, size]
        assert np.abs(frames[1][:, :37, :53].permute(1, 2, 0).numpy().astype(int) - odd).mean() < 5


def test_a_gif_gives_every_picture_colours_of_its_own(tmp_path: Path) -> None:
    colours = [[200, 30, 60], [20, 180, 90], [40, 60, 220]]
    write_video(tmp_path / "v.gif", [np.full((16, 16, 3), colour, np.uint8) for colour in colours], 10)
    found = [frame.float().mean(dim=(1, 2)) for frame in read_frames(tmp_path / "v.gif")]
    for colour, mean in zip(colours, found, strict=True):
        assert mean.tolist() == pytest.approx(colour, abs=3)


def test_a_video_is_written_as_its_pictures_come(tmp_path: Path) -> None:
    sizes: list[int] = []

    def produce() -> Iterator[Picture]:
        for index in range(30):
            yield np.random.default_rng(index).integers(0, 256, (192, 256, 3), dtype=np.uint8)
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))

    write_video(tmp_path / "v.gif", produce(), 25)
    assert 0 < sizes[12] < sizes[26] < (tmp_path / "v.gif").stat().st_size


@pytest.mark.parametrize(
    ("name", "message"),
    [("v.avi", r"v\.avi ends in \.avi; expected one of \.gif, \.mp4"), ("v", r"ends in no suffix; expected one of")],
)
def test_an_unknown_video_suffix_lists_the_known(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, [picture(0)], 25)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_a_video_needs_pictures_of_one_size(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"no frames to write to .*v\."):
        write_video(tmp_path / name, [], 25)
    with pytest.raises(ValueError, match=r"v\..*: a picture is \(40, 64, 3\), those before it are \(48, 64, 3\)"):
        write_video(tmp_path / name, [picture(0), picture(0, 40)], 25)
    assert os.listdir(tmp_path) == []


def test_features_read_back(tmp_path: Path) -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    write_features(tmp_path / "f.npy", features)
    write_features(tmp_path / "f.safetensors", features.to(torch.bfloat16).permute(0, 1, 3, 2))
    from safetensors.torch import load_file

    assert np.array_equal(np.load(tmp_path / "f.npy"), features.numpy())
    loaded = load_file(tmp_path / "f.safetensors")["features"]
    assert torch.equal(loaded, features.to(torch.bfloat16).permute(0, 1, 3, 2))
    with pytest.raises(ValueError, match=r"f\.pt ends in \.pt; expected one of \.npy, \.safetensors"):
        write_features(tmp_path / "f.pt", features)


def test_keypoints_read_back_and_lost_ones_are_empty(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 900, (4, 3, 2)).astype(np.float32)
    points[2, 1] = np.nan
    scores = np.random.default_rng(1).uniform(0, 1, (4, 3)).astype(np.float32)
    write_tracks(tmp_path / "tracks.csv", points, scores)
    with open(tmp_path / "tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["frame", "point", "x", "y", "score"]
    assert [(int(row["frame"]), int(row["point"])) for row in rows] == [(f, k) for f in range(4) for k in range(3)]
    assert (rows[7]["x"], rows[7]["y"]) == ("", "")
    assert [float(row["score"]) for row in rows] == pytest.approx(scores.ravel(), abs=1e-4)
    with pytest.raises(ValueError, match="holds the points of several frames"):
        read_points(tmp_path / "tracks.csv")
    write_tracks(tmp_path / "one.csv", points[2:3], scores[2:3], [7])
    back = read_points(tmp_path / "one.csv")
    assert np.array_equal(np.isnan(back), np.isnan(points[2]))
    assert np.nanmax(np.abs(back - points[2])) < 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"points\.csv has no rows with the columns x and y"),
        ("x,y\n", r"no rows with the columns x and y"),
        ("a,b\n1,2\n", r"no rows with the columns x and y"),
        ("x,y\n1,two\n", r"points\.csv: x and y must be numbers .*two"),
        ("x,y\n1\n", r"x and y must be numbers|no rows"),
    ],
)
def test_a_bad_keypoint_file_says_what_is_missing(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    if text.endswith("1\n"):
        assert np.isnan(read_points(path)).tolist() == [[False, True]]
        return
    with pytest.raises(ValueError, match=message):
        read_points(path)


# ------------------------------------------------------------------------------------------------------------- drawings


def test_an_overlay_tints_objects_outlines_them_and_leaves_the_rest() -> None:
    frame, ids = picture(0), np.zeros((48, 64), np.uint8)
    ids[10:30, 10:40], ids[10:30, 25:40] = 1, 2
    drawn = overlay(frame, ids)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn[ids == 0], frame[ids == 0])
    for label, inside in ((1, np.s_[12:28, 12:23]), (2, np.s_[12:28, 27:38])):
        expected = frame[inside] * 0.5 + davis_palette()[label] * 0.5
        assert np.abs(drawn[inside] - expected).max() <= 1
        outline = davis_palette()[label] * 0.6 + 255 * 0.4
        for edge in (np.s_[10, 12:23], np.s_[29, 12:23]):
            at = (edge[0], slice(edge[1].start + 15 * (label - 1), edge[1].stop + 15 * (label - 1)))
            assert np.abs(drawn[at] - outline).max() <= 1
    assert np.abs(drawn[20, 24] - (davis_palette()[1] * 0.6 + 102)).max() <= 1  # where two objects touch
    assert np.abs(drawn[20, 25] - (davis_palette()[2] * 0.6 + 102)).max() <= 1


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_an_overlay_takes_every_kind_of_ids_and_changes_no_input(dtype: Any) -> None:
    frame, ids = picture(0), np.zeros((48, 64), dtype)
    ids[5:9, 5:9] = 1
    before = frame.copy(), ids.copy()
    assert np.array_equal(overlay(frame, ids), overlay(frame, ids.astype(np.int32)))
    assert np.array_equal(frame, before[0])
    assert np.array_equal(ids, before[1])


def test_ids_beyond_the_palette_begin_again_at_its_second_colour() -> None:
    frame, colours = np.zeros((8, 8, 3), np.uint8), [0, 0, 0, 200, 0, 0, 0, 200, 0]
    for label, same in ((3, 1), (4, 2), (1001, 1), (65535, 1)):
        drawn = overlay(frame, np.full((8, 8), label), colours)
        assert np.array_equal(drawn, overlay(frame, np.full((8, 8), same), colours))
        assert drawn.any()
    assert np.array_equal(overlay(frame, np.full((8, 8), 255)), overlay(frame, np.full((8, 8), 15)))  # 20 colours of DAVIS
    assert overlay(frame, np.full((8, 8), -5), colours).any()


def test_keypoints_are_discs_at_their_places_and_lost_ones_are_not_drawn() -> None:
    frame = picture(0)
    points = np.array([[40.0, 30.0], [np.nan, np.nan], [10.0, 40.0]])
    drawn = draw_keypoints(frame, points, radius=3)
    assert drawn[30, 40].tolist() == davis_palette()[1].tolist()
    assert drawn[40, 10].tolist() == davis_palette()[3].tolist()
    y, x = np.mgrid[:48, :64]
    near = np.zeros((48, 64), bool)
    for px, py in points[[0, 2]]:
        near |= (x - px) ** 2 + (y - py) ** 2 <= 25
    assert np.array_equal(drawn[~near], frame[~near])
    assert (drawn != frame).any(axis=2)[near].mean() > 0.3
    assert drawn.flags.writeable
    assert np.array_equal(frame, picture(0))
    assert np.array_equal(draw_keypoints(frame, np.full((2, 2), np.nan)), frame)


def test_a_point_at_the_border_is_drawn_without_error() -> None:
    drawn = draw_keypoints(picture(0), np.array([[-0.5, -0.5], [63.5, 47.5], [900.0, 900.0]]), radius=3)
    assert (drawn[0, 0] != picture(0)[0, 0]).any()
    assert (drawn[-1, -1] != picture(0)[-1, -1]).any()


@pytest.mark.parametrize("name", ["x" * 240, "\u00e9" * 120], ids=["letters", "two bytes each"])
def test_names_as_long_as_the_disk_allows(tmp_path: Path, name: str) -> None:
    write_mask(tmp_path / f"{name}.png", np.ones((2, 3), np.uint8))
    assert os.listdir(tmp_path) == [f"{name}.png"]
    for other, overwrite in ((f"{name}.a", False), (f"{name}.b", False), (f"{name}.a", True)):
        with atomic_folder(tmp_path / other, overwrite=overwrite) as draft:
            (draft / "file").write_text(other)
            assert len(os.listdir(tmp_path)) > 1
    assert sorted(os.listdir(tmp_path)) == sorted([f"{name}.png", f"{name}.a", f"{name}.b"])


def test_a_folder_is_locked_for_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(FileExistsError, match="is being written by another run"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
    assert not os.listdir(tmp_path)
