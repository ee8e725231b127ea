"""Real clips with ground truth. The scores here are floors far below what was measured, to notice what breaks."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae import load_model, propagate_labels, read_frames
from siammae.encoder import Encoder
from siammae.evaluation.metrics import region_similarity
from siammae.labels import as_mask
from siammae.video import write_video

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from raw_colors import RawColors


def sequence(folder: Path, name: str, num_frames: int) -> tuple[list[Path], NDArray[np.uint8]]:
    """Frame paths and masks [T, H, W] of the first frames of a DAVIS sequence."""
    davis = folder / "davis2016"
    images = sorted((davis / "JPEGImages" / "480p" / name).glob("*.jpg"))[:num_frames]
    masks = sorted((davis / "Annotations" / "480p" / name).glob("*.png"))[:num_frames]
    return images, np.stack([np.array(Image.open(mask)) for mask in masks])


def mean_j(gt: NDArray[np.uint8], masks: NDArray[np.uint8]) -> float:
    scores = [region_similarity(true > 0, found > 0) for true, found in zip(gt[1:-1], masks[1:-1], strict=True)]
    return float(np.mean(scores))


@pytest.mark.parametrize("preset", ["default", "dino", "cropmae"])
def test_raw_colors_follow_a_slow_object(real_data: Path, preset: str) -> None:
    frames, gt = sequence(real_data, "blackswan", 8)
    masks = propagate_labels(frames, gt[0], RawColors(), config=preset)
    assert masks.shape == gt.shape
    assert set(np.unique(masks)) == {0, 255}
    assert mean_j(gt, masks) > 0.7


def test_an_untrained_transformer_follows_a_slow_object(real_data: Path) -> None:
    frames, gt = sequence(real_data, "blackswan", 5)
    masks = propagate_labels(frames, gt[0], load_model("vitt16", pretrained=False), config="dino")
    assert mean_j(gt, masks) > 0.7


def test_a_gif_of_a_real_clip(real_data: Path, tmp_path: Path) -> None:
    frames, gt = sequence(real_data, "blackswan", 6)
    write_video(tmp_path / "swan.gif", (np.array(Image.open(frame)) for frame in frames), 24)
    masks = propagate_labels(tmp_path / "swan.gif", gt[0], RawColors())
    assert mean_j(gt, masks) > 0.6


def test_a_real_video_file(real_data: Path, encoder: Encoder) -> None:
    video = sorted((real_data / "pretrain" / "intel-sample-videos").glob("*.mp4"))[0]
    frames = read_frames(video)
    first = next(iter(frames))
    mask = np.zeros(first.shape[1:], dtype=bool)
    mask[64:192, 64:192] = True
    masks = propagate_labels(itertools.islice(frames, 4), mask, encoder, size=128)
    assert masks.shape == (4, *mask.shape)
    assert all(0.5 < frame.sum() / mask.sum() < 2 for frame in masks)


@pytest.mark.filterwarnings("ignore:ids .* are too small")
def test_many_classes_keep_their_ids_and_palette(real_data: Path, encoder: Encoder) -> None:
    annotations = sorted((real_data / "chen" / "Annotations" / "soccer").glob("*.png"))[:4]
    images = sorted((real_data / "chen" / "JPEGImages" / "soccer").iterdir())[:4]
    first = Image.open(annotations[0])
    masks = propagate_labels(images, first, encoder, size=160)
    assert [mask.getpalette() for mask in masks] == [first.getpalette()] * 4
    ids = as_mask(first).ids()
    assert len(ids) > 2
    assert set(np.unique([np.array(mask) for mask in masks])) <= set(ids)
    agreement = np.mean(np.array(masks[2]) == np.array(Image.open(annotations[2])))
    assert agreement > 0.8
