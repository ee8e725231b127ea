"""The published protocols from frames to masks, and what each choice of a PropagationConfig does."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import crw_sequence, dino_sequence
from torch import Tensor, nn
from torch.nn import functional as F

from siammae import LabelPropagator, PropagationConfig, propagate_keypoints, propagate_labels
from siammae.encoder import Encoder
from siammae.features import Resize, preprocess
from siammae.models.build import build_encoder
from siammae.synthetic import Clip, render_clip

Ids = NDArray[np.uint8]
INPUT = (40, 104)  # pixels that the encoder sees: a grid of 10 x 26 cells, wide enough for every radius to count


@pytest.fixture(scope="module")
def fine_encoder() -> Encoder:
    return build_encoder("vit_tiny_patch16_224", {"depth": 2, "patch_size": 4}, name="fine").eval()


@pytest.fixture(scope="module", params=[INPUT, (46, 122)], ids=["same size", "other size"])
def clip(request: pytest.FixtureRequest) -> Clip:
    """Ten frames, so that DINO's queue of seven drops some; two animals on the ground."""
    return render_clip(10, request.param, num_objects=2)


@pytest.fixture(scope="module")
def scripted(clip: Clip, fine_encoder: Encoder) -> dict[str, list[Ids]]:
    """Masks of the frames of `clip` after the first, by the name of the script that makes them."""
    resize: dict[str, Resize] = {"dino": "bilinear_uint8", "crw": "bilinear", "cropmae": "bilinear"}  # as OpenCV does
    return {
        name: script(unit_grids(clip.frames, fine_encoder, resize=resize[name]), clip.masks[0])
        for name, script in SCRIPTS.items()
    }


def unit_grids(frames: NDArray[np.uint8], encoder: Encoder, layer: int = -1, resize: Resize = "bicubic") -> Tensor:
    """Features [T, D, h, w] of unit length."""
    images = preprocess(torch.from_numpy(frames).movedim(-1, 1), encoder, INPUT, resize)
    with torch.inference_mode():
        return F.normalize(encoder(images, layer=layer).float(), dim=1)


def centers(num: int, num_pixels: int) -> Tensor:
    """The pixel at the middle of each of `num` equal shares of `num_pixels`: what a resize to the nearest takes."""
    return torch.div((2 * torch.arange(num) + 1) * num_pixels, 2 * num, rounding_mode="floor")


def resize_to_nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = values.shape[-2:]
    return values[..., centers(size[0], height), :][..., centers(size[1], width)]


def resize_to_corner(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Each value from the pixel under its top left corner, as OpenCV resizes to the nearest."""
    rows, columns = (torch.arange(num) * pixels // num for num, pixels in zip(size, values.shape[-2:], strict=True))
    return values[..., rows, :][..., columns]


def one_hot(mask: Ids) -> Tensor:
    """[L, H, W] float32, of ids 0 to L - 1."""
    return F.one_hot(torch.from_numpy(mask).long()).movedim(-1, 0).float()


def enlarge(soft: Tensor) -> Tensor:
    return F.interpolate(soft[None], size=INPUT, mode="bilinear", align_corners=False)[0]


def dino_masks(features: Tensor, mask0: Ids, num_last: int = 7) -> list[Ids]:
    """Masks of the frames after the first, as DINO's script makes them from features [T, D, h, w]."""
    first = resize_to_nearest(one_hot(mask0), (features.shape[2], features.shape[3]))
    last: deque[tuple[Tensor, Tensor]] = deque(maxlen=num_last)
    masks = []
    for query in features[1:]:
        context = torch.stack([features[0], *(feature for feature, _ in last)])
        labels = torch.stack([first, *(label for _, label in last)])
        soft = dino_sequence(query, context, labels, radius=12, top_k=5, temperature=0.1)
        last.append((query, soft))
        planes = enlarge(soft)
        for plane in planes:
            if plane.max() > 0:
                plane -= plane.min().clone()
                plane /= plane.max().clone()
        masks.append(resize_to_nearest(planes.argmax(dim=0), mask0.shape[:2]).numpy())
    return masks


def crw_masks(features: Tensor, mask0: Ids, *, radius: float, top_k: int, temperature: float, num: int = 20) -> list[Ids]:
    """Masks of the frames after the first, as the scripts of CRW and CropMAE make them from features [T, D, h, w]."""
    size = (features.shape[2], features.shape[3])
    at_input = resize_to_corner(one_hot(mask0), INPUT)
    first = F.interpolate(at_input[None], size=size, mode="bilinear", align_corners=False)[0]
    padded = [features[0]] * num + list(features)
    labels = [first] * (num + 1)
    masks = []
    for target in range(num + 1, len(padded)):
        shown = [0, *range(target - num, target)]
        context, known = torch.stack([padded[i] for i in shown]), torch.stack([labels[i] for i in shown])
        labels.append(crw_sequence(padded[target], context, known, radius=radius, top_k=top_k, temperature=temperature))
        masks.append(resize_to_corner(enlarge(labels[-1]).argmax(dim=0), mask0.shape[:2]).numpy())
    return masks


SCRIPTS: dict[str, Callable[[Tensor, Ids], list[Ids]]] = {
    "dino": dino_masks,
    "crw": lambda features, mask0: crw_masks(features, mask0, radius=12, top_k=10, temperature=0.05),
    "cropmae": lambda features, mask0: crw_masks(features, mask0, radius=20, top_k=7, temperature=0.7),
}


@pytest.mark.parametrize("preset", SCRIPTS)
def test_a_preset_gives_the_masks_of_its_script(
    preset: str, clip: Clip, fine_encoder: Encoder, scripted: dict[str, list[Ids]]
) -> None:
    actual = propagate_labels(clip.frames, clip.masks[0], fine_encoder, size=INPUT, config=preset)
    assert np.array_equal(actual[0], clip.masks[0])
    for mask, wanted in zip(actual[1:], scripted[preset], strict=True):
        assert set(np.unique(wanted)) == {0, 1, 2}
        assert np.mean(mask == wanted) >= 0.999
    assert np.mean(actual[-1] != clip.masks[0]) > 0.01  # the animals moved


def test_the_scripts_differ_from_each_other(scripted: dict[str, list[Ids]]) -> None:
    last = [masks[-1] for masks in scripted.values()]
    assert all(np.mean(last[a] != last[b]) > 0.002 for a, b in ((0, 1), (0, 2), (1, 2)))


PUBLISHED = {
    "dino": {"context_frames": 7, "top_k": 5, "radius": 12, "temperature": 0.1, "window": "square", "strict": False},
    "crw": {"context_frames": 20, "top_k": 10, "radius": 12, "temperature": 0.05, "window": "circle", "strict": True},
    "cropmae": {"context_frames": 20, "top_k": 7, "radius": 20, "temperature": 0.7, "window": "circle", "strict": True},
}
PUBLISHED["dino"] |= {
    "keep_ties": True,
    "restrict_anchors": True,
    "pad_with_anchor": False,
    "first_labels": "nearest",
    "nearest_pixel": "center",
    "normalize_objects": True,
    "resize": "bilinear_uint8",
    "point_maps": "gaussian",
    "point_lost_below": 0,
}
for _name in ("crw", "cropmae"):
    PUBLISHED[_name] |= {
        "keep_ties": False,
        "restrict_anchors": False,
        "pad_with_anchor": True,
        "first_labels": "bilinear",
        "nearest_pixel": "corner",
        "normalize_objects": False,
        "resize": "bilinear",
        "point_maps": "crw",
        "point_lost_below": 0,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_hold_the_published_values(name: str) -> None:
    preset = PropagationConfig.preset(name)
    published = {**PUBLISHED[name], "decode_at": "input", "layer": -1, "edges": "none", "projection": False, "keep_lost": True}
    published |= {"point_radius": math.inf, "point_redraw": 0, "point_sigma": 0.5, "anchor_factor": 1, "label_power": 1}
    assert {key: getattr(preset, key) for key in published} == published
    assert {field.name for field in fields(preset)} == {
        *published,
        "point_top_k",
        "edge_power",
        "edge_color",
        "edge_radius",
        "edge_eps",
        "lost_below",
        "foreign_below",
    }
    assert preset.point_sigma == 0.5


def test_a_preset_may_be_changed_in_single_values() -> None:
    changed = PropagationConfig.preset("dino", top_k=7)
    assert changed == replace(PropagationConfig.preset("dino"), top_k=7)
    assert changed == PropagationConfig.from_mapping({"preset": "dino", "top_k": 7})
    assert PropagationConfig.preset("default") == PropagationConfig() == PropagationConfig.from_mapping({})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("topk", "top_k"),
        ("radios", "radius"),
        ("temprature", "temperature"),
        ("windows", "window"),
        ("n_context_frames", "context_frames"),
    ],
)
def test_an_unknown_field_is_refused_and_the_closest_named(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"no field '{wrong}'; did you mean {right}"):
        PropagationConfig.preset("dino", **{wrong: 1})
    with pytest.raises(ValueError, match=f"no field '{wrong}'; did you mean {right}"):
        propagate_labels([RED_LEFT], BOTH, Colors(), config={wrong: 1})


def test_an_unknown_preset_is_refused_and_all_named() -> None:
    with pytest.raises(ValueError, match="no preset is called 'dinov9'; there are default, dino, crw, cropmae"):
        PropagationConfig.preset("dinov9")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context_frames", -1),
        ("top_k", 0),
        ("point_top_k", 0),
        ("radius", -1),
        ("radius", math.nan),
        ("temperature", 0),
        ("temperature", -1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("edges", "canny"),
        ("edge_power", 0),
        ("edge_color", 0),
        ("lost_below", 1.5),
        ("foreign_below", -0.1),
        ("keep_lost", 1),
        ("edge_radius", -0.1),
        ("edge_eps", math.nan),
        ("point_sigma", 0),
        ("point_sigma", math.nan),
        ("point_radius", -1),
        ("point_redraw", 1.5),
        ("window", "disc"),
        ("first_labels", "hard"),
        ("decode_at", "grid"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; expected"):
        PropagationConfig(**{name: value})


def test_an_empty_strict_window_is_refused() -> None:
    with pytest.raises(ValueError, match="radius is 0; expected a number, 0 or more, or above 0 where the window is strict"):
        PropagationConfig(radius=0, strict=True)


# What each field does, in a world whose features are known: cells of 4 x 4 pixels that are each compared by their colour alone.

PATCH = 4
RED, GREEN, BLUE, ORANGE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (204, 153, 0)  # red and orange: cosine 0.8
PLAIN = {"context_frames": 0, "top_k": 1, "radius": math.inf, "temperature": 0.1, "edges": "none"}


class _Projection(nn.Module):
    """As much of a transformer as an Encoder asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 3, 1)
        self.patch_embed.patch_size = (PATCH, PATCH)
        self.num_features = 3
        self.blocks = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward_intermediates(self) -> None:
        raise NotImplementedError


class Colors(Encoder):
    """Features are the colours of the cells; those of block 0 are the colours with red and green exchanged for one grey."""

    def __init__(self) -> None:
        super().__init__(_Projection(), architecture="colours", model_args={}, mean=(0, 0, 0), std=(1, 1, 1), name="colours")

    def forward(self, images: Tensor, *, layer: int = -1) -> Tensor:
        colors = F.avg_pool2d(images, PATCH)
        return colors if layer == -1 else torch.stack([colors[:, 0] + colors[:, 1], colors[:, 0] * 0, colors[:, 2]], dim=1)


def paint(rows: list[list[tuple[int, int, int]]], scale: int = 1) -> NDArray[np.uint8]:
    """A frame with a uniform colour in every cell, `scale` times as large as the encoder will see it."""
    return np.array(rows, np.uint8).repeat(PATCH * scale, axis=0).repeat(PATCH * scale, axis=1)


def row(red: int | None, width: int = 8) -> NDArray[np.uint8]:
    """One row of green cells, one of which is red unless it is hidden."""
    return paint([[RED if x == red else GREEN for x in range(width)]])


def mask_of(cells: list[list[int]], scale: int = 1) -> Ids:
    return np.array(cells, np.uint8).repeat(PATCH * scale, axis=0).repeat(PATCH * scale, axis=1)


RED_LEFT, BOTH = row(0, 2), mask_of([[1, 0]])


def carried(frames: list[NDArray[np.uint8]], mask0: Any, **changes: Any) -> Tensor:
    """Soft labels [L, h, w] of the last frame."""
    size = (frames[0].shape[0], frames[0].shape[1])
    propagator = LabelPropagator(frames[0], mask0, Colors(), size=size, config={**PLAIN, "keep_lost": True, **changes})
    for frame in frames[1:]:
        propagator.step(frame)
    return propagator.labels


def masks_of(frames: list[NDArray[np.uint8]], mask0: Any, size: tuple[int, int] | None = None, **changes: Any) -> Any:
    size = size or (frames[0].shape[0], frames[0].shape[1])
    return propagate_labels(frames, mask0, Colors(), size=size, config={**PLAIN, "keep_lost": True, **changes})


def found_at(frames: list[NDArray[np.uint8]], **changes: Any) -> list[int]:
    """Columns of the last frame that bear the label of the red cell of the first, which is its only object."""
    mask0 = (frames[0][..., 0] > 0).astype(np.uint8)
    last = masks_of(frames, mask0, **changes)[-1]
    return [x for x in range(last.shape[1] // PATCH) if last[:, PATCH * x : PATCH * (x + 1)].all()]


def test_context_frames_let_an_object_be_followed_step_by_step() -> None:
    frames = [row(red) for red in range(6)]
    assert found_at(frames, radius=1, context_frames=1) == [5]
    assert found_at(frames, radius=1, context_frames=0) == []


@pytest.mark.parametrize(("context_frames", "columns"), [(2, []), (3, [3]), (4, [3])])
def test_context_frames_are_how_long_a_hidden_object_is_remembered(context_frames: int, columns: list[int]) -> None:
    frames = [row(red) for red in (0, 2, None, None, 3)]
    assert found_at(frames, radius=2, context_frames=context_frames) == columns


def test_top_k_matches_share_the_label() -> None:
    frame, shares = paint([[RED, RED, RED, GREEN]]), []
    for top_k in (1, 2, 3):
        shares.append(carried([frame, frame], mask_of([[1, 2, 3, 4]]), top_k=top_k)[:, 0, 0].tolist())
    assert shares[0] == pytest.approx([1, 0, 0, 0])
    assert shares[1] == pytest.approx([1 / 2, 1 / 2, 0, 0])
    assert shares[2] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


@pytest.mark.parametrize(("radius", "columns"), [(2, []), (2.9, []), (3, [4]), (math.inf, [4])])
def test_radius_is_how_far_a_match_may_be(radius: float, columns: list[int]) -> None:
    assert found_at([row(1), row(4)], radius=radius) == columns


@pytest.mark.parametrize(
    ("window", "strict", "radius", "found"),
    [
        ("square", False, 2, True),
        ("circle", False, 2, False),
        ("circle", False, 2.9, True),
        ("square", True, 2, False),
        ("square", True, 2.1, True),
    ],
)
def test_window_and_strict_say_which_cells_are_within_the_radius(window: str, strict: bool, radius: float, found: bool) -> None:
    frames = [paint([[RED if (y, x) == place else GREEN for x in range(4)] for y in range(4)]) for place in ((1, 1), (3, 3))]
    mask = mask_of([[int((y, x) == (1, 1)) for x in range(4)] for y in range(4)])
    assert masks_of(frames, mask, window=window, strict=strict, radius=radius)[-1].any() == found


@pytest.mark.parametrize("temperature", [0.05, 0.2, 2])
def test_temperature_is_that_of_the_softmax_over_the_matches(temperature: float) -> None:
    frame = paint([[RED, ORANGE, BLUE]])
    share = carried([frame, frame], mask_of([[1, 2, 3]]), top_k=2, temperature=temperature)[0, 0, 0]
    assert float(share) == pytest.approx(1 / (1 + math.exp(-0.2 / temperature)), abs=1e-4)


def test_keep_ties_lets_all_equal_matches_count() -> None:
    frame, mask = paint([[RED, RED, RED, GREEN]]), mask_of([[1, 2, 3, 4]])
    ties = carried([frame, frame], mask, top_k=1, keep_ties=True)[:, 0, 0]
    assert ties.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert carried([frame, frame], mask, top_k=1, keep_ties=False)[:, 0, 0].tolist() == pytest.approx([1, 0, 0, 0])


def test_an_unrestricted_first_frame_is_searched_everywhere_and_the_others_are_not() -> None:
    jump = [row(0), row(7)]
    assert found_at(jump, radius=2, restrict_anchors=True) == []
    assert found_at(jump, radius=2, restrict_anchors=False) == [7]
    frames = [paint([[RED, GREEN, GREEN, GREEN]]), paint([[RED, BLUE, GREEN, GREEN]]), paint([[RED, GREEN, GREEN, BLUE]])]
    mask = mask_of([[1, 2, 3, 3]])
    blue = {free: carried(frames, mask, radius=1, context_frames=1, restrict_anchors=free)[:, 0, 3] for free in (True, False)}
    assert blue[True].tolist() == pytest.approx([0, 0, 1])  # nothing blue within reach: the first equal match in the window
    assert blue[False].tolist() == pytest.approx([1, 0, 0])  # the first of all cells, which are equally unlike


def test_padding_lets_early_frames_see_copies_of_the_first() -> None:
    frame, mask = paint([[RED, ORANGE, GREEN]]), mask_of([[1, 2, 3]])
    second = math.exp(-0.2 / 0.1)
    alone = carried([frame, frame], mask, top_k=2, context_frames=2, pad_with_anchor=False)[:, 0, 0]
    assert alone.tolist() == pytest.approx([1 / (1 + second), second / (1 + second), 0], abs=1e-5)
    copies = carried([frame, frame], mask, top_k=2, context_frames=2, pad_with_anchor=True)[:, 0, 0]
    assert copies.tolist() == pytest.approx([1, 0, 0])
    best = 3  # the first frame and its two copies
    four = carried([frame, frame], mask, top_k=4, context_frames=2, pad_with_anchor=True)[:, 0, 0]
    assert four.tolist() == pytest.approx([best / (best + second), second / (best + second), 0], abs=1e-5)


def test_copies_of_the_first_frame_give_way_to_recent_frames() -> None:
    frames = [paint([[RED, GREEN]]), paint([[BLUE, GREEN]]), paint([[BLUE, GREEN]]), paint([[RED, GREEN]])]
    shown = {}
    for length in (2, 3, 4):
        changes = {"top_k": 3, "context_frames": 2, "temperature": 1, "pad_with_anchor": True, "label_power": 1.0}
        clip_ = [*frames[: length - 1], frames[-1]]
        shown[length] = float(carried(clip_, mask_of([[1, 2]]), **changes)[0, 0, 0])
    assert shown[2] == pytest.approx(1)  # three red cells: the first frame and two copies
    assert shown[3] == pytest.approx(2 * math.e / (2 * math.e + 1))  # two of them, and the green cell
    assert shown[4] == pytest.approx((math.e + 2 / 3) / (math.e + 2))  # one, the green and a blue cell, which got 2/3 itself


@pytest.mark.filterwarnings("ignore:ids .* are too small")
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_first_labels_say_what_a_partly_covered_cell_gets(start: int) -> None:
    """One column of pixels of the left cell is marked, from the top to its middle."""
    frame, mask = paint([[RED, GREEN]]), np.zeros((PATCH, 2 * PATCH), np.uint8)
    mask[:2, start] = 1
    first = {name: float(carried([frame], mask, first_labels=name)[1, 0, 0]) for name in ("area", "bilinear", "nearest")}
    assert first["area"] == pytest.approx(2 / 16)
    assert first["bilinear"] == pytest.approx(1 / 4 if start in (1, 2) else 0)  # of the four pixels around the middle
    assert first["nearest"] == 0
    mask[2, start] = 1
    assert float(carried([frame], mask, first_labels="nearest")[1, 0, 0]) == (start == 2)


def test_soft_labels_are_interpolated_between_cells() -> None:
    frame, soft = paint([[RED, GREEN]]), torch.zeros(1, PATCH, 2 * PATCH)
    soft[:, :, :PATCH] = 1
    bilinear = masks_of([frame, frame], soft, edges="none")[1]
    assert bilinear[0, 0].tolist() == pytest.approx([1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8, 0, 0])


def test_decoding_at_the_input_size_leaves_blocks_and_at_the_frame_size_does_not() -> None:
    scale, size = 4, (3 * PATCH, 3 * PATCH)
    frame = paint([[GREEN, GREEN, RED], [GREEN, RED, RED], [GREEN, GREEN, GREEN]], scale)
    mask = mask_of([[0, 0, 1], [0, 1, 1], [0, 0, 0]], scale)

    def blocks(decode_at: str) -> bool:
        last = masks_of([frame, frame], mask, size, decode_at=decode_at, edges="none")[1]
        assert last.shape == mask.shape
        assert set(np.unique(last)) == {0, 1}
        coarse = last[::scale, ::scale]
        return np.array_equal(last, coarse.repeat(scale, axis=0).repeat(scale, axis=1))

    assert blocks("input")
    assert not blocks("frame")


@pytest.mark.filterwarnings("ignore:ids .* are too small")
def test_normalizing_objects_rescues_a_weak_small_one() -> None:
    frame, mask = paint([[RED, GREEN, GREEN, BLUE]]), np.zeros((PATCH, 4 * PATCH), np.uint8)
    mask[0, :PATCH] = 1  # a quarter of the red cell
    mask[:, 3 * PATCH :] = 2
    assert set(np.unique(masks_of([frame, frame], mask, normalize_objects=False)[1])) == {0, 2}
    rescued = masks_of([frame, frame], mask, normalize_objects=True)[1]
    assert set(np.unique(rescued)) == {0, 1, 2}
    assert set(np.unique(rescued[:, : PATCH // 2])) == {1}
    assert not (rescued[:, PATCH:] == 1).any()


def test_an_object_that_is_nowhere_is_not_made_up_by_normalizing() -> None:
    frames, mask = [paint([[RED, GREEN, GREEN]]), paint([[GREEN, GREEN, GREEN]])], mask_of([[1, 0, 0]])
    assert not masks_of(frames, mask, normalize_objects=True)[1].any()


def test_layer_says_which_features_are_compared() -> None:
    frames, mask = [paint([[GREEN, RED, BLUE]]), paint([[RED, GREEN, BLUE]])], mask_of([[1, 2, 3]])
    assert masks_of(frames, mask, layer=-1)[1][0, ::PATCH].tolist() == [2, 1, 3]
    assert masks_of(frames, mask, layer=0)[1][0, ::PATCH].tolist() == [1, 1, 3]  # red and green are one to it


@pytest.mark.parametrize("layer", [0, 1, -2])
def test_layer_takes_the_output_of_that_block(layer: int, fine_encoder: Encoder) -> None:
    pond = render_clip(3, INPUT)
    config = PropagationConfig.preset("dino", layer=layer)
    actual = propagate_labels(pond.frames, pond.masks[0], fine_encoder, size=INPUT, config=config)
    expected = dino_masks(unit_grids(pond.frames, fine_encoder, layer), pond.masks[0])
    assert np.mean(actual[-1] == expected[-1]) >= 0.999
    with pytest.raises(ValueError, match="layer is 2; fine has 2 blocks"):
        propagate_labels(pond.frames, pond.masks[0], fine_encoder, size=INPUT, config={"layer": 2})


def point_in(x: float, **changes: Any) -> float:
    """Where a point at column `x`, in cells, of a row of 8 cells of different colours is found when nothing moves."""
    frame = paint([[(255, 32 * i, 255 - 32 * i) for i in range(8)]])
    points = np.array([[(x + 0.5) * PATCH - 0.5, 0.5 * PATCH - 0.5]], np.float32)
    found, _ = propagate_keypoints([frame, frame], points, Colors(), size=(PATCH, 8 * PATCH), config={**PLAIN, **changes})
    return (float(found[1, 0, 0]) + 0.5) / PATCH - 0.5


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2])
def test_point_sigma_is_the_deviation_of_a_keypoints_gaussian(sigma: float) -> None:
    farther = math.exp((0.25**2 - 0.75**2) / (2 * sigma**2))
    assert point_in(3.25, point_sigma=sigma, point_top_k=2) == pytest.approx(3 + farther / (1 + farther), abs=1e-4)


@pytest.mark.parametrize(("top_k", "x"), [(1, 3), (2, 3.25), (4, 3.25)])
def test_point_top_k_cells_are_averaged_for_a_keypoint(top_k: int, x: float) -> None:
    sigma = math.sqrt(0.25 / math.log(3))  # the cell to the right gets a third of the weight of the nearest
    found = point_in(3.25, point_sigma=sigma, point_top_k=top_k)
    if top_k < 4:
        assert found == pytest.approx(x, abs=1e-3)
    else:
        distances = np.array([3, 4, 2, 5])
        weights = np.exp(-((distances - 3.25) ** 2) / (2 * sigma**2))
        assert found == pytest.approx(float((weights * distances).sum() / weights.sum()), abs=1e-3)
