"""Labels through time: what must hold whatever the features are."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from siammae import KeypointPropagator, LabelPropagator, PropagationConfig, propagate_keypoints, propagate_labels
from siammae.encoder import Encoder
from siammae.features import encode
from siammae.geometry import Geometry
from siammae.models.build import build_encoder
from siammae.ops import propagate
from siammae.synthetic import render_clip

Frames = NDArray[np.uint8]


def moving(texture: Frames, num_frames: int, step: int, size: tuple[int, int] = (96, 128)) -> Frames:
    """A window over the texture that moves left by `step` pixels a frame: what it shows moves right."""
    height, width = size
    return np.stack([texture[64 : 64 + height, 64 - t * step : 64 - t * step + width] for t in range(num_frames)])


NEAR = {"top_k": 1, "radius": 2, "edges": "none"}  # so that what enters the picture finds no match among the objects


def square(size: tuple[int, int] = (96, 128), ids: tuple[int, int] = (0, 1)) -> NDArray[np.int64]:
    mask = np.full(size, ids[0])
    mask[32:64, 40:72] = ids[1]
    return mask


def test_a_still_video_keeps_its_labels(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 6, step=0)
    masks = propagate_labels(frames, square(), encoder, size=96, config={"top_k": 1, "edges": "none"})  # noise is all edges
    assert masks.shape == (6, 96, 128)
    for mask in masks:
        assert (mask != square()).mean() < 0.02  # only the corners of the square are rounded by the grid


@pytest.mark.parametrize("preset", ["default", "dino", "crw", "cropmae"])
def test_a_translated_texture_moves_its_labels_by_the_translation(colours: Encoder, texture: Frames, preset: str) -> None:
    frames = moving(texture, 6, step=8)
    masks = propagate_labels(frames, square(), colours, size=(96, 128), config={"preset": preset, **NEAR})
    for t in range(6):
        expected = np.roll(square(), 8 * t, axis=1)
        seen_before = slice(8 * t, None)  # columns that frame 0 showed too
        assert (masks[t] != expected)[:, seen_before].mean() < 0.02


def test_keypoints_move_with_the_texture(colours: Encoder, texture: Frames) -> None:
    points = np.array([[44.0, 40.0], [60.5, 60.0], [np.nan, np.nan]])
    tracks, scores = propagate_keypoints(moving(texture, 5, step=8), points, colours, size=(96, 128), config=NEAR)
    assert tracks.shape == (5, 3, 2)
    assert scores.shape == (5, 3)
    assert (tracks[0][:2] == points[:2]).all()
    for t in range(1, 5):
        assert np.abs(tracks[t, :2] - points[:2] - [8 * t, 0]).max() < 2
    assert scores[:, :2].min() > 0.9
    assert np.isnan(tracks[:, 2]).all()
    assert (scores[:, 2] == 0).all()


def test_keypoint_coordinates_do_not_depend_on_the_frames_resolution(colours: Encoder, texture: Frames) -> None:
    frames = moving(texture, 3, step=8)
    doubled = frames.repeat(2, axis=1).repeat(2, axis=2)
    point = torch.tensor([[60.0, 40.0]])
    small, _ = propagate_keypoints(frames, point, colours, size=(96, 128), config=NEAR)
    large, _ = propagate_keypoints(doubled, (point + 0.5) * 2 - 0.5, colours, size=(96, 128), config=NEAR)
    assert isinstance(small, torch.Tensor)
    assert torch.allclose((large + 0.5) / 2 - 0.5, small, atol=0.3)


def test_streaming_equals_batch_bit_for_bit(encoder: Encoder) -> None:
    clip = render_clip(7, (96, 160))
    batch = propagate_labels(clip.frames, clip.masks[0], encoder, size=96, config="cropmae")
    propagator = LabelPropagator(clip.frames[0], clip.masks[0], encoder, size=96, config="cropmae")
    for frame, expected in zip(clip.frames[1:], batch[1:], strict=True):
        assert (propagator.step(Image.fromarray(frame)) == expected).all()


def test_a_restored_propagator_goes_on_as_if_nothing_had_been(encoder: Encoder) -> None:
    clip = render_clip(8, (96, 160))
    config = PropagationConfig(context_frames=3)
    steady = LabelPropagator(clip.frames[0], clip.masks[0], encoder, size=96, config=config)
    for frame in clip.frames[1:6]:
        steady.step(frame)
    restored = LabelPropagator(clip.frames[0], clip.masks[0], encoder, size=96, config=config)
    restored.load_state_dict(steady.state_dict())
    for frame in clip.frames[6:]:
        assert (restored.step(frame) == steady.step(frame)).all()
        assert torch.equal(restored.labels, steady.labels)


LARGE = 2**63 + 2**20 + 1


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">u2", "u4", ">i8", "u8"])
@pytest.mark.parametrize("form", ["array", "tensor"])
def test_ids_keep_the_masks_own_type(encoder: Encoder, texture: Frames, kind: str, form: str) -> None:
    frames, dtype = moving(texture, 3, 0), np.dtype(kind)
    ids = (-5, 127) if kind == "i1" else (int(np.iinfo(dtype).max) - 1, LARGE if kind == "u8" else 1)
    mask0 = np.where(square() == 1, np.array(ids[1], dtype), np.array(ids[0], dtype)).astype(dtype)
    given: Any = torch.from_numpy(mask0.astype(dtype.newbyteorder("="))) if form == "tensor" else mask0
    propagator = LabelPropagator(frames[0], given, encoder, size=96)
    mask = np.asarray(propagator.step(frames[1]))
    assert mask.dtype == (dtype.newbyteorder("=") if form == "tensor" else dtype)
    assert set(np.unique(mask).tolist()) == set(ids)
    restored = LabelPropagator(frames[0], given, encoder, size=96)
    restored.load_state_dict(propagator.state_dict())
    assert restored.ids == sorted(ids)
    propagator.remove([ids[1]])
    assert not (np.asarray(propagator.step(frames[2])) == ids[1]).any()


@pytest.mark.parametrize("ids", [(0, 255), (-7, 70_000), (3, 4), (0, 1)])
def test_ids_survive(encoder: Encoder, texture: Frames, ids: tuple[int, int]) -> None:
    mask0 = square(ids=ids)
    masks = propagate_labels(moving(texture, 3, 4), mask0, encoder, size=96, config={"foreign_below": 0})
    assert masks.dtype == mask0.dtype
    assert set(np.unique(masks)) == set(ids)
    assert (masks[0] == mask0).all()


def test_many_objects_in_every_form(encoder: Encoder, tmp_path: Path) -> None:
    clip = render_clip(3, (96, 160), num_objects=3)
    reference = propagate_labels(clip.frames, clip.masks[0], encoder, size=96)
    tensor = propagate_labels(
        torch.from_numpy(clip.frames).permute(0, 3, 1, 2), torch.from_numpy(clip.masks[0]), encoder, size=96
    )
    assert tensor.dtype == torch.uint8
    assert (tensor.numpy() == reference).all()
    picture = Image.fromarray(clip.masks[0])
    picture.putpalette([i % 256 for i in range(768)])
    picture.save(tmp_path / "mask.png")
    pictures = propagate_labels(clip.frames, picture, encoder, size=96)
    assert pictures[2].getpalette() == picture.getpalette()
    assert (np.stack([np.array(p) for p in pictures]) == reference).all()
    assert (propagate_labels(clip.frames, tmp_path / "mask.png", encoder, size=96) == reference).all()
    soft0 = (clip.masks[0] == np.arange(4)[:, None, None]).astype(np.float32)
    soft = propagate_labels(clip.frames, soft0, encoder, size=96)
    assert soft.shape == (3, 4, 96, 160)
    assert (soft[0] == soft0).all()
    assert np.allclose(soft.sum(axis=1), 1, atol=1e-4)
    assert (soft.argmax(axis=1)[1:] == reference[1:]).all()


def test_bool_masks(encoder: Encoder, texture: Frames) -> None:
    masks = propagate_labels(moving(texture, 3, 0), square() == 1, encoder, size=96)
    assert masks.dtype == bool
    assert 0.02 < masks[2].mean() < 0.2


def test_void_teaches_nothing(encoder: Encoder, texture: Frames) -> None:
    mask0 = square().astype(np.uint8)
    mask0[:8] = 255
    masks = propagate_labels(moving(texture, 3, 0), mask0, encoder, size=96, void_id=255)
    assert (masks[0] == mask0).all()
    assert set(np.unique(masks[1:])) == {0, 1}
    with pytest.raises(ValueError, match="nothing but the void id 255"):
        propagate_labels(moving(texture, 2, 0), np.full((96, 128), 255), encoder, void_id=255)


def test_propagation_runs_backwards_from_a_middle_frame(colours: Encoder, texture: Frames) -> None:
    frames = moving(texture, 7, step=8)
    middle = np.roll(square(), 24, axis=1)
    masks = propagate_labels(frames, middle, colours, size=(96, 128), config=NEAR, start=3)
    assert (masks[3] == middle).all()
    for t in range(7):
        assert (masks[t] != np.roll(square(), 8 * t, axis=1)).mean() < 0.02
    tracks, _ = propagate_keypoints(frames, [[64.0, 40.0]], colours, size=(96, 128), config=NEAR, start=3)
    assert np.abs(tracks[:, 0, 0] - (40 + 8 * np.arange(7))).max() < 2
    reversed_masks = propagate_labels(frames[3::-1], middle, colours, size=(96, 128), config=NEAR)
    assert (reversed_masks == masks[3::-1]).all()


def test_a_new_object_is_carried_on_from_the_frame_where_it_is_added(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 8, step=0)
    propagator = LabelPropagator(frames[0], square(), encoder, size=96)
    for frame in frames[1:4]:
        assert set(np.unique(propagator.step(frame))) == {0, 1}
    added = square()
    added[48:80, 80:112] = 9
    propagator.add(frames[3], added)
    assert propagator.ids == [0, 1, 9]
    for frame in frames[4:]:
        assert (propagator.step(frame) != added).mean() < 0.1


def test_a_correction_replaces_what_was_wrong(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 6, step=0)
    propagator = LabelPropagator(frames[0], square(), encoder, size=96)
    propagator.step(frames[1])
    right = np.zeros((96, 128), dtype=np.int64)
    right[32:64, 80:112] = 1
    propagator.add(frames[1], right)
    assert (propagator.step(frames[2]) != right).mean() < 0.1
    propagator.add(frames[2], np.zeros((96, 128), dtype=np.int64))  # the object has left
    assert (propagator.step(frames[3]) != 0).mean() < 0.1


def test_reset_forgets(encoder: Encoder, texture: Frames) -> None:
    first, second = moving(texture, 2, 4), moving(texture, 2, 4, size=(64, 96))
    propagator = LabelPropagator(first[0], square(), encoder, size=64)
    propagator.step(first[1])
    mask = square((64, 96), ids=(0, 5))
    propagator.reset(second[0], mask)
    fresh = LabelPropagator(second[0], mask, encoder, size=64)
    assert (propagator.step(second[1]) == fresh.step(second[1])).all()


def test_several_videos_at_once_share_a_model(encoder: Encoder) -> None:
    clips = [render_clip(4, (64, 96), seed=seed) for seed in range(3)]

    def run(index: int) -> NDArray[np.uint8]:
        masks: NDArray[np.uint8] = propagate_labels(clips[index].frames, clips[index].masks[0], encoder, size=64)
        return masks

    alone = [run(index) for index in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(run, range(3)))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_the_context_is_bounded(encoder: Encoder) -> None:
    clip = render_clip(9, (64, 96))
    propagator = LabelPropagator(clip.frames[0], clip.masks[0], encoder, size=64, config={"context_frames": 3})
    sizes = []
    for frame in clip.frames[1:]:
        propagator.step(frame)
        sizes.append(len(propagator._propagator.context))
    assert sizes == [2, 3, 4, 4, 4, 4, 4, 4]
    buffers = propagator.state_dict()
    assert buffers["features"].shape[0] == 4


def test_the_first_frame_alone_can_be_the_context(encoder: Encoder) -> None:
    clip = render_clip(4, (64, 96))
    masks = propagate_labels(clip.frames, clip.masks[0], encoder, size=64, config={"context_frames": 0})
    expected = propagate_labels(clip.frames[[0, 3]], clip.masks[0], encoder, size=64)
    assert (masks[3] == expected[1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask0": np.ones((96, 127), dtype=int)}, r"the mask is 96 x 127 pixels but its frame is 96 x 128"),
        ({"mask0": np.zeros((96, 128), dtype=int)}, "nothing but background"),
        ({"size": 8}, "size is 8 pixels; expected at least one patch of tiny, 16 pixels"),
        ({"config": "deeno"}, "no preset is called 'deeno'; there are default, dino, crw, cropmae"),
        ({"config": {"topk": 3}}, r"no field 'topk'; did you mean top_k\?"),
        ({"start": 2}, "start is 2, but the sequence has only 2 frames"),
        ({"start": -1}, "start is -1"),
        ({"start": 1.0}, "start is 1.0; expected the number of a frame, a whole number"),
        ({"start": True}, "start is True; expected the number of a frame"),
        ({"void_id": "1"}, "void_id is '1'; expected an id, a whole number, or None"),
        ({"void_id": 1.5}, r"void_id is 1\.5; expected an id"),
        ({"size": True}, "size is True; expected a whole number of pixels"),
        ({"size": 10**400}, "expected at most 1000000"),
        ({"config": {"temperature": 1e-40}}, "temperature is 1e-40; expected a positive number, from 1e-30"),
        ({"config": {"temperature": 1e300}}, r"temperature is 1e\+300; expected"),
        ({"config": {"point_sigma": 1e-40}}, "point_sigma is 1e-40; expected a positive number, from 0.01 to 1000"),
        ({"config": {"point_lost_below": 1.5}}, "point_lost_below is 1.5; expected"),
        ({"model": "vits17"}, "no model is called 'vits17'"),
    ],
)
def test_arguments_that_cannot_be(encoder: Encoder, texture: Frames, arguments: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"frames": moving(texture, 2, 0), "mask0": square(), "model": encoder, "size": 96}
    with pytest.raises(ValueError, match=message):
        propagate_labels(**{**good, **arguments})


def test_a_generator_cannot_run_backwards(encoder: Encoder, texture: Frames) -> None:
    with pytest.raises(ValueError, match="can be read forwards only"):
        propagate_labels(iter(moving(texture, 3, 0)), square(), encoder, size=96, start=1)


def test_frames_of_another_size_are_refused(encoder: Encoder, texture: Frames) -> None:
    propagator = LabelPropagator(texture[:96, :128], square(), encoder, size=96)
    with pytest.raises(ValueError, match="frame 1 is 96 x 100 pixels; the frames before it are 96 x 128"):
        propagator.step(texture[:96, :100])


def test_additions_that_cannot_be(encoder: Encoder, texture: Frames) -> None:
    frame = texture[:96, :128]
    propagator = LabelPropagator(frame, square().astype(np.uint8), encoder, size=96)
    with pytest.raises(ValueError, match="do not all fit into the uint8"):
        propagator.add(frame, square(ids=(0, 300)))
    with pytest.raises(ValueError, match="the mask holds soft labels; this propagator was started with ids"):
        propagator.add(frame, np.zeros((2, 96, 128), dtype=np.float32))
    with pytest.raises(ValueError, match="the mask is 64 x 128 pixels"):
        propagator.add(frame, square()[:64])
    assert propagator.ids == [0, 1]


def test_features_that_are_not_finite_are_refused(texture: Frames) -> None:
    broken = build_encoder("vit_tiny_patch16_224", {"depth": 1}, name="broken").eval()
    with torch.no_grad():
        broken.vit.norm.weight[0] = torch.nan
    with pytest.raises(ValueError, match="broken gives features that are not finite: its weights are damaged"):
        propagate_labels(moving(texture, 2, 0), square(), broken, size=96)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[10.0, 10.0], [128.0, 5.0]], r"point 1 is at \[128.0, 5.0\], outside the frame of 128 x 96"),
        ([[-0.6, 0.0]], "point 0"),
        (np.zeros((3, 3)), r"\[3, 3\]; expected \[K, 2\]"),
        (np.zeros((0, 2)), r"\[0, 2\]; expected \[K, 2\]"),
    ],
)
def test_points_that_cannot_be(encoder: Encoder, texture: Frames, points: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        propagate_keypoints(moving(texture, 2, 0), points, encoder, size=96)


def test_small_objects_are_not_lost_in_silence(encoder: Encoder, texture: Frames) -> None:
    mask = square()
    mask[4:7, 4:7] = 9
    with pytest.warns(UserWarning, match=r"ids \[9\] are too small for a grid of 6 x 8 cells and will be lost"):
        LabelPropagator(texture[:96, :128], mask, encoder, size=96)
    with pytest.warns(UserWarning, match=r"ids \[9\] are too small"):  # lost already where the mask is resized to the input
        LabelPropagator(texture[:96, :128], mask, encoder, size=(16, 16), config="crw")


def test_a_refused_addition_changes_nothing(encoder: Encoder, texture: Frames) -> None:
    propagator = LabelPropagator(texture[:96, :128], square(), encoder, size=96)
    with pytest.raises(ValueError, match="frame 1 is 96 x 100 pixels"):
        propagator.add(texture[:96, :100], square(ids=(0, 7)))
    assert propagator.ids == [0, 1]
    soft = np.stack([square() == 0, square() == 1]).astype(np.float32)
    propagator.reset(texture[:96, :128], soft)
    with pytest.raises(ValueError, match="holds 1 soft labels; expected at least the 2 known so far"):
        propagator.add(texture[:96, :128], soft[:1])
    with pytest.raises(ValueError, match="void_id is 255, but soft labels have no ids"):
        LabelPropagator(texture[:96, :128], soft, encoder, size=96, void_id=255)


def test_a_state_is_a_snapshot(encoder: Encoder) -> None:
    clip = render_clip(5, (64, 96))
    propagator = LabelPropagator(clip.frames[0], clip.masks[0], encoder, size=64, config={"context_frames": 1})
    propagator.step(clip.frames[1])
    state = propagator.state_dict()
    runs = []
    for _ in range(2):
        propagator.load_state_dict(state)
        runs.append([propagator.step(frame) for frame in clip.frames[2:]])
    assert np.array_equal(runs[0], runs[1])


def test_propagators_may_be_made_in_inference_mode_and_used_outside(encoder: Encoder) -> None:
    clip = render_clip(3, (64, 96))
    with torch.inference_mode():
        propagator = LabelPropagator(clip.frames[0], clip.masks[0], encoder, size=64)
        propagator.step(clip.frames[1])
    assert propagator.step(clip.frames[2]).shape == (64, 96)


def test_arrays_of_any_memory_layout(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 2, 0)
    points = np.array([[40.0, 20.0]])[:, ::-1]
    points.flags.writeable = False
    tracks, _ = propagate_keypoints(frames, points, encoder, size=96)
    assert tracks[0].tolist() == [[20.0, 40.0]]
    big_endian = square()[::-1, ::-1].astype(">i4")
    masks = propagate_labels(frames, big_endian, encoder, size=96, config="crw")
    assert (masks[0] == big_endian).all()
    soft = torch.from_numpy(np.stack([square() == 0, square() == 1])).bfloat16()
    assert propagate_labels(frames, soft, encoder, size=96).dtype == torch.bfloat16


def two_objects() -> NDArray[np.int64]:
    mask = square()
    mask[48:80, 88:120] = 7
    return mask


@pytest.mark.parametrize("ids", [(0, 1), (3, 1)], ids=["with a background", "without one"])
def test_a_removed_object_becomes_background_and_the_others_stay(
    encoder: Encoder, texture: Frames, ids: tuple[int, int]
) -> None:
    frames, mask0 = moving(texture, 6, step=0), two_objects()
    mask0[mask0 == 0] = ids[0]
    propagator, untouched = (LabelPropagator(frames[0], mask0, encoder, size=96, config={"edges": "none"}) for _ in range(2))
    for frame in frames[1:3]:
        propagator.step(frame)
        untouched.step(frame)
    propagator.remove([7])
    assert propagator.ids == ([0, 1] if ids[0] == 0 else [1, 3, 0])
    assert np.array_equal(propagator.decode(), np.where(untouched.decode() == 7, 0, untouched.decode()))
    for frame in frames[3:]:
        mask, expected = propagator.step(frame), untouched.step(frame)
        assert 7 in expected
        assert (mask != np.where(expected == 7, 0, expected)).mean() < 0.01
        assert torch.allclose(propagator.labels.sum(dim=0), untouched.labels.sum(dim=0), atol=1e-5)


def test_a_removed_object_can_come_again(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 4, step=0)
    propagator = LabelPropagator(frames[0], two_objects(), encoder, size=96, config={"edges": "none"})
    propagator.remove([7, 1])
    assert propagator.ids == [0]
    assert not propagator.step(frames[1]).any()
    propagator.add(frames[1], two_objects())
    assert (propagator.step(frames[2]) != two_objects()).mean() < 0.1
    restored = LabelPropagator(frames[0], two_objects(), encoder, size=96, config={"edges": "none"})
    propagator.remove([1])
    restored.load_state_dict(propagator.state_dict())
    assert np.array_equal(restored.decode(), propagator.decode())
    assert np.array_equal(restored.step(frames[3]), propagator.step(frames[3]))


@pytest.mark.parametrize("edges", ["guided", "none"])
def test_removed_soft_labels_are_zero(encoder: Encoder, texture: Frames, edges: str) -> None:
    frames = moving(texture, 3, step=0)
    soft = np.stack([two_objects() == label for label in (0, 1, 7)]).astype(np.float32)
    propagator, untouched = (LabelPropagator(frames[0], soft, encoder, size=96, config={"edges": edges}) for _ in range(2))
    propagator.remove([1])
    for frame in frames[1:]:
        maps, expected = propagator.step(frame), untouched.step(frame)
        assert expected[1].max() > 0.9
        assert not maps[1].any()
        assert torch.equal(propagator.labels[[0, 2]], untouched.labels[[0, 2]])
        if edges == "none":  # else the labels of a pixel are scaled together, so that they still share it out
            assert np.array_equal(maps[[0, 2]], expected[[0, 2]])


def test_removals_that_cannot_be(encoder: Encoder, texture: Frames) -> None:
    propagator = LabelPropagator(texture[:96, :128], two_objects(), encoder, size=96)
    with pytest.raises(ValueError, match=r"ids \[5\] are not propagated; the ids are \[0, 1, 7\]"):
        propagator.remove([1, 5])
    with pytest.raises(ValueError, match="id 0 is the background, which cannot be removed"):
        propagator.remove([0, 1])
    assert propagator.ids == [0, 1, 7]
    propagator.remove([])
    assert propagator.ids == [0, 1, 7]


def test_numbers_of_numpy_are_numbers(encoder: Encoder, texture: Frames) -> None:
    frames, mask0 = moving(texture, 3, 0), square()
    plain = propagate_labels(
        frames, mask0, encoder, size=96, void_id=255, start=1, config={"radius": 8, "top_k": 3, "restrict_anchors": False}
    )
    config = {
        "radius": np.int64(8),
        "top_k": np.uint8(3),
        "temperature": np.float32(0.005),
        "restrict_anchors": np.bool_(False),
    }
    masks = propagate_labels(frames, mask0, encoder, size=np.int64(96), void_id=np.uint8(255), start=np.int32(1), config=config)
    assert np.array_equal(masks, plain)
    assert propagate_labels(frames, mask0, encoder, size=(np.int64(96), np.int16(128))).shape == (3, 96, 128)
    assert {type(value) for value in asdict(PropagationConfig(**config)).values()} == {int, float, str, bool}


def test_floats_may_exceed_the_range_by_rounding_only(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 2, 0).astype(np.float32) / 255
    soft = np.stack([square() == 0, square() == 1]).astype(np.float32)
    slightly = [values * np.float32(1 + 5e-7) for values in (frames, soft)]
    assert max(values.max() for values in slightly) > 1
    assert np.array_equal(propagate_labels(*slightly, encoder, size=96)[0], soft)
    with pytest.raises(ValueError, match=r"soft labels from 0 to 1\.0000\d+; expected \[0, 1\]"):
        propagate_labels(frames, soft * 1.00001, encoder, size=96)
    with pytest.raises(ValueError, match=r"holds floats from 0 to 1\.0000\d+; expected \[0, 1\]"):
        propagate_labels(frames * np.float32(1.00001), soft, encoder, size=96)


def test_a_state_holds_all_that_goes_on(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 5, step=0)
    steady, restored = (LabelPropagator(frames[0], square(), encoder, size=96) for _ in range(2))
    steady.step(frames[1])
    steady.add(frames[1], two_objects())
    steady.step(frames[2])
    restored.step(frames[4])
    restored.load_state_dict(steady.state_dict())
    assert restored.ids == [0, 1, 7]
    assert torch.equal(restored.labels, steady.labels)
    assert np.array_equal(restored.decode(), steady.decode())
    for frame in frames[3:]:
        assert np.array_equal(restored.step(frame), steady.step(frame))


def test_a_state_of_another_propagator_is_refused_and_changes_nothing(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 3, step=0)
    other = build_encoder("vit_tiny_patch16_224", {"depth": 2}, name="tiny").eval()
    other.vit.cls_token.data += 1
    soft = np.stack([square() == 0, square() == 1]).astype(np.float32)
    made: dict[str, Any] = {"frame0": frames[0], "mask0": square(), "model": encoder, "size": 96}
    for changes, message in (
        ({"size": (96, 112)}, r"size of the input was \[96, 112\], now \[96, 128\]"),
        ({"frame0": frames[0][:64, :96], "mask0": square((64, 96))}, r"size of the frames was \[64, 96\], now \[96, 128\]"),
        ({"config": {"top_k": 3}}, "top_k was 3, now 5"),
        ({"model": other}, "weights was"),
        ({"mask0": soft}, "the state is of soft labels; this propagator was started with ids"),
        ({"mask0": square(ids=(0, 300))}, r"ids \[0, 300\] do not all fit into the uint8"),
    ):
        propagator, untouched = (LabelPropagator(**{**made, "mask0": square().astype(np.uint8)}) for _ in range(2))
        with pytest.raises(ValueError, match=message):
            propagator.load_state_dict(LabelPropagator(**{**made, **changes}).state_dict())
        assert np.array_equal(propagator.step(frames[1]), untouched.step(frames[1]))
    state = propagator.state_dict()
    del state["ids"], state["counts"]
    with pytest.raises(ValueError, match="the state lacks counts, ids"):
        propagator.load_state_dict(state)
    points = KeypointPropagator(frames[0], [[40.0, 40.0]], encoder, size=96)
    with pytest.raises(ValueError, match=r"the state lacks ids, last_frame, looks, .*object_scores, .*soft"):
        propagator.load_state_dict(points.state_dict())
    with pytest.raises(ValueError, match="the state lacks points, scores"):
        points.load_state_dict(propagator.state_dict())


def test_every_anchor_keeps_its_own_features_and_labels(encoder: Encoder, texture: Frames) -> None:
    frames = [texture[t : t + 96, :128] for t in (0, 40, 80)]
    masks = [np.roll(square(), 16 * t, axis=1) for t in range(3)]
    propagator = LabelPropagator(frames[0], masks[0], encoder, size=96, config={"context_frames": 2})
    propagator.step(frames[2])
    for frame, mask in zip(frames[1:], masks[1:], strict=True):
        propagator.add(frame, mask)
    context = propagator._propagator.context
    assert len(context) == context.num_anchors == 3
    for place, (frame, mask) in enumerate(zip(frames[::-1], masks[::-1], strict=True)):  # the newest first
        alone = LabelPropagator(frame, mask, encoder, size=96)._propagator.context
        assert torch.equal(context.features[place], alone.features[0])
        assert torch.equal(context.labels[place], alone.labels[0])


def test_a_new_object_pushes_the_background_away_in_older_anchors(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 2, step=0)
    propagator = LabelPropagator(frames[0], square(), encoder, size=96, config={"top_k": 1})
    propagator.add(frames[0], two_objects())
    newest, older = propagator._propagator.context.labels  # [0, 1, 7] of the same picture
    assert torch.allclose(older, newest, atol=1e-4)
    assert torch.allclose(older.sum(dim=0), torch.ones(6, 8), atol=1e-4)


@torch.no_grad()
def test_after_a_correction_only_the_anchors_and_what_follows_count(encoder: Encoder, texture: Frames) -> None:
    frames = moving(texture, 7, step=4)
    config = PropagationConfig(context_frames=3, foreign_below=0)  # to an untrained model, a part of a patch is another scene
    propagator = LabelPropagator(frames[0], square(), encoder, size=96, config=config)
    for frame in frames[1:5]:  # the ring is full, and has begun anew
        propagator.step(frame)
    propagator.add(frames[4], two_objects())
    context = propagator._propagator.context
    assert len(context) == 2
    features = F.normalize(
        encode(encoder, [torch.from_numpy(frames[5]).permute(2, 0, 1)], Geometry.of((96, 128), encoder, 96), -1)[0], dim=0
    )
    expected = propagate(
        features,
        context.features.clone(),
        context.labels.clone(),
        radius=config.radius,
        top_k=config.top_k,
        temperature=config.temperature,
    )
    propagator.step(frames[5])
    assert torch.equal(propagator.labels, expected)
    assert len(context) == 3
