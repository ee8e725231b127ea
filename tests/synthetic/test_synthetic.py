"""The synthetic clip: its masks, its point tracks and its pixels tell one story."""

import numpy as np
import pytest
from numpy.typing import NDArray

from siammae.synthetic import Clip, render_clip
from siammae.synthetic.pond import _Pond

HEIGHT, WIDTH, FRAMES = 240, 432, 48


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip()


def owners(clip: Clip) -> NDArray[np.int64]:
    """Object id of each point: [K]."""
    return np.repeat(np.arange(clip.masks.max()) + 1, 4)


def patch(frame: NDArray[np.uint8], point: NDArray[np.float32], radius: int = 6) -> NDArray[np.float32]:
    """Grey values around a point, sampled bilinearly: [2 radius + 1, 2 radius + 1]."""
    (x, y), (fx, fy) = np.floor(point).astype(int), point % 1
    box = frame[y - radius : y + radius + 2, x - radius : x + radius + 2].mean(2, dtype=np.float32)
    rows = box[:-1] * (1 - fy) + box[1:] * fy
    return rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx


def correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_shapes_and_types(clip: Clip) -> None:
    assert clip.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert clip.masks.shape == (FRAMES, HEIGHT, WIDTH)
    assert clip.points.shape == (FRAMES, 8, 2)
    assert clip.visible.shape == (FRAMES, 8)
    types = [array.dtype for array in (clip.frames, clip.masks, clip.points, clip.visible)]
    assert types == [np.uint8, np.uint8, np.float32, np.bool_]
    assert clip.fps > 0


def test_a_seed_names_one_clip() -> None:
    first, again, other = (render_clip(2, (72, 120), num_objects=3, seed=seed) for seed in (5, 5, 6))
    for name in ("frames", "masks", "points", "visible"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.frames != other.frames).mean() > 0.5


def test_a_short_clip_is_the_start_of_a_longer_one() -> None:
    short, long = render_clip(3, (72, 120)), render_clip(9, (72, 120))
    for name in ("frames", "masks", "points", "visible"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:3])


def test_every_object_is_large_enough_in_every_frame(clip: Clip) -> None:
    shares = np.array([[(mask == number).mean() for number in (1, 2)] for mask in clip.masks])
    assert shares.min() > 0.04
    assert shares.max() < 0.15
    assert np.unique(clip.masks).tolist() == [0, 1, 2]


@pytest.mark.parametrize("num_objects", [1, 3, 8])
def test_all_ids_are_present(num_objects: int) -> None:
    for mask in render_clip(48 if num_objects == 1 else 8, (60, 100), num_objects=num_objects).masks:
        assert np.unique(mask).tolist() == list(range(num_objects + 1))


def test_masks_scale_with_the_frame() -> None:
    small, large = (render_clip(1, size).masks[0] for size in ((80, 144), (240, 432)))
    assert (small == large[1::3, 1::3]).mean() > 0.98


@pytest.mark.parametrize("size", [(32, 32), (33, 201), (200, 47)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    clip = render_clip(2, size)
    assert clip.frames.shape == (2, *size, 3)
    assert clip.masks.max() == 2


def test_visible_points_lie_on_their_object(clip: Clip) -> None:
    owner = owners(clip)
    for t, k in np.argwhere(clip.visible):
        x, y = np.rint(clip.points[t, k]).astype(int)
        assert owner[k] in clip.masks[t, y - 1 : y + 2, x - 1 : x + 2]


def test_objects_hide_each_other_for_a_while(clip: Clip) -> None:
    assert clip.visible[:, :4].all(), "nothing swims over object 1"
    seen = clip.visible[:, 4:].mean(0)
    assert 0.2 < seen.min() < 0.9
    assert clip.visible[0].all()
    area = (clip.masks == 2).sum((1, 2))
    assert 0.4 < area.min() / area.max() < 0.85


def test_objects_travel_but_do_not_jump(clip: Clip) -> None:
    travelled = np.linalg.norm(clip.points[-1] - clip.points[0], axis=-1)
    assert travelled.min() > 0.3 * WIDTH
    steps = np.linalg.norm(np.diff(clip.points, axis=0), axis=-1)
    assert steps.max() < 0.015 * WIDTH


@pytest.mark.parametrize("num_objects", [2, 8])
def test_thousands_of_frames_stay_in_the_picture(num_objects: int) -> None:
    animals = _Pond(48, 80, num_objects, 0).animals
    places = np.array([[animal.place(t) for animal in animals] for t in range(0, 2000, 7)]) / (80, 48)  # [t, object, 2]
    assert places.min() > 0.1
    assert places.max() < 0.9
    late = places[-60:]
    assert (np.ptp(late, axis=0) > 0.3).all(), "every animal still goes round after 1,500 frames"


def test_texture_moves_with_the_body(clip: Clip) -> None:
    followed, stayed = [], []
    for t, k in np.argwhere(clip.visible[:-1] & clip.visible[1:]):
        before = patch(clip.frames[t], clip.points[t, k])
        followed.append(correlation(before, patch(clip.frames[t + 1], clip.points[t + 1, k])))
        stayed.append(correlation(before, patch(clip.frames[t + 1], clip.points[t, k])))
    assert np.median(followed) > 0.9
    assert np.median(followed) > np.median(stayed) + 0.2
    assert np.mean(np.array(followed) > np.array(stayed)) > 0.95


def test_ground_moves_under_the_camera(clip: Clip) -> None:
    left = clip.frames[[0, -1], :40, :120].mean(3)
    assert correlation(left[0], left[1]) < 0.7


def test_frames_look_natural(clip: Clip) -> None:
    for frame in clip.frames[::12]:
        grey = frame.mean(2)
        assert len(np.unique(grey.astype(np.uint8))) > 100
        assert 70 < grey.mean() < 150
        assert 20 < grey.std() < 70
        assert correlation(grey[:, 1:], grey[:, :-1]) > 0.9, "neighbours resemble each other"
        assert (grey > 250).mean() < 0.01
        saturation = 1 - frame.min(2) / frame.max(2).clip(1)
        assert saturation.mean() < 0.5
        assert (grey[1:] != grey[:-1]).mean() > 0.9, "no flat areas"


def test_colour_alone_does_not_tell_objects_from_ground(clip: Clip) -> None:
    bins = (clip.frames[0] // 16).astype(int) @ (256, 16, 1)
    ground = np.unique(bins[clip.masks[0] == 0])
    assert np.isin(bins[clip.masks[0] == 1], ground).mean() > 0.15
    assert np.isin(bins[clip.masks[0] == 2], ground).mean() > 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0; expected at least 1"),
        ({"size": (31, 64)}, "size is 31 x 64 pixels .* at least 32 a side"),
        ({"size": (64, 8)}, "size is 64 x 8 pixels"),
        ({"num_objects": 0}, "num_objects is 0; expected 1 to 8"),
        ({"num_objects": 9}, "num_objects is 9; expected 1 to 8"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
    ],
)
def test_impossible_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_clip(**arguments)  # type: ignore[arg-type]
