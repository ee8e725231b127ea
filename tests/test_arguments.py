"""Arguments of other types: taken where their meaning is plain, else one clear error, whatever the entry point."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import FullDisk
from numpy.typing import NDArray
from PIL import Image

import siammae
from siammae import KeypointPropagator, LabelPropagator, extract_features, load_model, propagate_keypoints, propagate_labels
from siammae.encoder import Encoder
from siammae.labels import as_mask, as_points, write_mask
from siammae.video import read_frames, write_picture, write_video

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
MASK = np.zeros((64, 96), np.uint8)
MASK[16:48, 16:64] = 1
MASK_ERROR = r"expected integer or bool ids \[H, W\], or float soft labels \[L, H, W\]"


def wrong(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("points", [[["a", "b"]], {"a": 1}, [[1 + 2j, 3]], [[None, [1]]], "points.csv", Path("points.csv")])
def test_points_that_are_no_numbers(points: Any) -> None:
    wrong(lambda: as_points(points), r"points (are no numbers|hold torch\.complex128|are the text 'points\.csv'; read a table)")
    wrong(lambda: propagate_keypoints(FRAMES, points), "^points ")


@pytest.mark.parametrize("start", [None, "1", 1.0, True, -1, 3])
def test_a_start_that_is_no_frame(encoder: Encoder, start: Any) -> None:
    wrong(lambda: propagate_labels(FRAMES, MASK, encoder, size=64, start=start), f"start is {start!r}")
    wrong(lambda: propagate_keypoints(FRAMES, [[3, 4]], encoder, size=64, start=start), f"start is {start!r}")


@pytest.mark.parametrize("batch_size", [None, "2", 1.5, True, 0, -1])
def test_a_batch_size_that_is_no_number_of_frames(encoder: Encoder, batch_size: Any) -> None:
    wrong(lambda: extract_features(FRAMES, encoder, size=64, batch_size=batch_size), f"batch_size is {batch_size!r}; expected")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (5, "config is 5; expected"),
        (["dino"], "config is .*; expected"),
        ({1: 2}, "no field '1'"),
        ("x", "there are default"),
    ],
)
def test_a_config_that_is_none(encoder: Encoder, config: Any, message: str) -> None:
    wrong(lambda: propagate_labels(FRAMES, MASK, encoder, size=64, config=config), message)
    wrong(lambda: KeypointPropagator(FRAMES[0], [[3, 4]], encoder, size=64, config=config), message)


@pytest.mark.parametrize("name", ["", 5, b"vits8", ["vits8"]])
def test_a_model_that_has_no_name(name: Any) -> None:
    wrong(lambda: load_model(name), "the name of a model is .*; expected such as 'vits8'")


@pytest.mark.parametrize("source", [b"clip.mp4", bytearray(9), {"frames": FRAMES}, None, 5, 1.5, object()])
def test_a_source_that_holds_no_frames(source: Any) -> None:
    wrong(lambda: read_frames(source), "^frames are a .*; expected a path, an array, a tensor or an iterable of frames")


def test_no_frames_at_all(encoder: Encoder) -> None:
    for empty in (FRAMES[:0], [], iter([]), torch.zeros(0, 3, 64, 96), read_frames(FRAMES)[2:1]):
        wrong(lambda empty=empty: extract_features(empty, encoder, size=64), "holds no frames")  # type: ignore[misc]
        wrong(lambda empty=empty: propagate_labels(empty, MASK, encoder, size=64), "holds no frames")  # type: ignore[misc]
    for flat in (np.zeros((3, 0, 96, 3), np.uint8), torch.zeros(3, 3, 64, 0)):
        wrong(lambda flat=flat: extract_features(flat, encoder, size=64), "has shape")  # type: ignore[misc]


def test_one_frame_and_frames_of_one_pixel(encoder: Encoder) -> None:
    assert np.array_equal(propagate_labels(FRAMES[:1], MASK, encoder, size=64), MASK[None])
    assert extract_features(FRAMES[:1], encoder, size=64).shape == (1, 192, 4, 6)
    pixel = propagate_labels(np.zeros((2, 1, 1, 3), np.uint8), np.ones((1, 1), np.uint8), encoder, size=16)
    assert pixel.tolist() == [[[1]], [[1]]]


@pytest.mark.parametrize("ids", [1, "1", ["1"], [1.0], None])
def test_ids_to_remove_that_are_no_list_of_ids(encoder: Encoder, ids: Any) -> None:
    propagator = LabelPropagator(FRAMES[0], MASK, encoder, size=64)
    wrong(lambda: propagator.remove(ids), r"ids are .*; expected a list of ids, such as \[1, 2\]")
    assert propagator.ids == [0, 1]


@pytest.mark.parametrize("state", [None, 5, {}, {"a": 1}, []])
def test_a_state_that_is_none(encoder: Encoder, state: Any) -> None:
    for propagator in (
        LabelPropagator(FRAMES[0], MASK, encoder, size=64),
        KeypointPropagator(FRAMES[0], [[3, 4]], encoder, size=64),
    ):
        wrong(
            lambda one=propagator: one.load_state_dict(state), r"the state (is a|lacks) .*expected what `state_dict` returned"
        )  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (MASK.astype(float), r"ids are float64 \[64, 96\]; expected integers or bool \[H, W\]"),
        (MASK[None], r"ids are uint8 \[1, 64, 96\]; expected"),
        (MASK[:0], r"ids are uint8 \[0, 96\]; expected"),
        (-MASK.astype(int), "ids run from -1 to 0; a PNG holds 0 to 65535"),
    ],
)
def test_ids_that_no_png_holds(tmp_path: Path, values: NDArray[Any], message: str) -> None:
    wrong(lambda: write_mask(tmp_path / "mask.png", values), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["bool", "int8", "uint16", "int32", "int64", "uint64", "tensor"])
def test_masks_of_every_type_are_written(tmp_path: Path, kind: str) -> None:
    write_mask(tmp_path / "mask.png", torch.from_numpy(MASK) if kind == "tensor" else MASK.astype(kind))
    assert np.array_equal(as_mask(tmp_path / "mask.png").values, MASK)


@pytest.mark.parametrize("fps", [25, 25.0, np.float32(25), np.int64(25), Fraction(25), torch.tensor(25.0)])
def test_rates_of_every_type_are_written(tmp_path: Path, fps: Any) -> None:
    write_video(tmp_path / "clip.mp4", FRAMES, fps, pixel_aspect=np.float64(2))
    with av.open(str(tmp_path / "clip.mp4")) as file:
        assert file.streams.video[0].average_rate == 25
        assert file.streams.video[0].sample_aspect_ratio == 2


@pytest.mark.parametrize("value", [None, "25", 0, -1, float("nan"), float("inf"), True, [25]])
def test_rates_and_aspects_that_are_no_positive_numbers(tmp_path: Path, value: Any) -> None:
    wrong(
        lambda: write_video(tmp_path / "clip.mp4", FRAMES, value), "fps is .*; expected a positive number of frames per second"
    )
    wrong(lambda: write_video(tmp_path / "clip.gif", FRAMES, 25, pixel_aspect=value), "pixel_aspect is .*; expected the width")
    assert not list(tmp_path.iterdir())


def test_pictures_of_other_formats(tmp_path: Path) -> None:
    for name in ("picture", "picture.xyz", "picture.mp4"):
        wrong(lambda name=name: write_picture(tmp_path / name, FRAMES[0]), rf"{name} ends in .*; expected one of \.bmp, \.gif")  # type: ignore[misc]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_picture(tmp_path / "nowhere" / "picture.png", FRAMES[0])
    write_video(tmp_path / "clip.mp4", FRAMES, 25)
    (tmp_path / "clip.png").write_bytes((tmp_path / "clip.mp4").read_bytes())
    wrong(lambda: list(read_frames(tmp_path / "clip.png")), r"clip\.png cannot be read as a picture: it is none of BMP, GIF")


FORMS: dict[str, Callable[[], Any]] = {
    "Fortran order": lambda: np.asfortranarray(FRAMES),
    "reversed axes": lambda: np.ascontiguousarray(FRAMES[:, ::-1, :, ::-1])[:, ::-1, :, ::-1],
    "part of a larger array": lambda: np.concatenate([FRAMES, FRAMES], axis=2)[:, :, :96],
    "float64": lambda: FRAMES / 255,
    "big endian": lambda: (FRAMES / 255).astype(">f4"),
    "uint16": lambda: FRAMES.astype(">u2") * 257,
    "tensor": lambda: torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
    "tensor with gradients": lambda: (torch.from_numpy(FRAMES).permute(0, 3, 1, 2) / 255).requires_grad_(),
    "tensor of uint16": lambda: torch.from_numpy(FRAMES.astype(np.uint16) * 257).permute(0, 3, 1, 2),
    "pictures": lambda: list(map(Image.fromarray, FRAMES)),
    "any mix": lambda: (FRAMES[0], torch.from_numpy(FRAMES[1]).permute(2, 0, 1), Image.fromarray(FRAMES[2])),
    "generator": lambda: (frame for frame in FRAMES),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_frames_and_masks_changes_nothing(encoder: Encoder, form: str) -> None:
    expected = propagate_labels(FRAMES, MASK, encoder, size=64)
    assert np.array_equal(propagate_labels(FORMS[form](), MASK, encoder, size=64), expected)
    wide = np.concatenate([MASK, MASK], axis=1)
    frozen = MASK.copy()
    frozen.setflags(write=False)
    for mask in (np.asfortranarray(MASK), wide[:, :96], np.ascontiguousarray(MASK[::-1])[::-1], frozen, MASK.astype(">i4")):
        assert np.array_equal(siammae.propagate_labels(FRAMES[:2], mask, encoder, size=64), expected[:2])


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jpg", ".png", ".ppm", ".tif", ".webp", ".mp4"])
def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, full_disk: FullDisk, suffix: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    path = tmp_path / f"file{suffix}"
    with full_disk(2000), pytest.raises(OSError, match=rf"file\{suffix} cannot be written: "):
        write_video(path, [frame] * 9, 25) if suffix == ".mp4" else write_picture(path, frame)
    assert not list(tmp_path.iterdir())
