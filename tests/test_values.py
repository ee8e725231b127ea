"""Values of frames: one rule for all that takes them. What is no frame's value is an error, with the remedy."""

from typing import Any

import numpy as np
import pytest
import torch

import siammae
from siammae import Geometry, LabelPropagator, extract_features, propagate_labels
from siammae.encoder import Encoder
from siammae.features import descriptors, preprocess
from siammae.labels import EdgeFilter
from siammae.visualize import overlay


def test_images_from_0_to_1_give_a_warning_and_frames_that_are_light_grey_do_not(encoder: Encoder) -> None:
    frames = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for call in (encoder, encoder.cls, encoder.attention, encoder.embed):
        with pytest.warns(UserWarning, match=r"values from .* to .*, as frames do .*: model\.preprocess\(frames\)"):
            call(frames)
    grey = np.linspace(0.51, 0.62, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)
    images = encoder.preprocess(grey, size=32)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    extract_features(grey, encoder, size=32)
    encoder(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: frames * 255, r"floats from 0 to 255; expected \[0, 1\] \(or uint8 in 0\.\.255\): divide them by the"),
        (lambda frames: frames * 65535, r"floats from 0 to 65535; .*: divide them by the largest"),
        (lambda frames: frames * 1e6, r"floats from 0 to 1000000; .*, such as 255"),
        (lambda frames: (frames - 0.45) / 0.22, r"floats from -2\.0454545 to 2\.5; .* before they were normalised"),
        (lambda frames: np.where(frames > 0.9, np.nan, frames), r"floats from nan to nan; .*replace what is not finite"),
        (lambda frames: np.where(frames > 0.9, np.inf, frames), r"floats from 0 to inf; .*replace what is not finite"),
        (lambda frames: (frames * 255).astype(np.int64), r"holds (torch\.)?int64; expected uint8"),
        (lambda frames: frames > 0.5, r"holds (torch\.)?bool; expected uint8"),
        (lambda frames: frames.astype(np.complex64), r"holds (torch\.)?complex64; expected uint8"),
    ],
)
@pytest.mark.parametrize("form", ["array", "tensor", "list"])
def test_frames_of_other_values_are_refused_wherever_frames_are_taken(
    encoder: Encoder, change: Any, message: str, form: str
) -> None:
    frames = np.stack(2 * [np.linspace(0, 1, 64 * 96 * 3).reshape(64, 96, 3)])
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 16:64] = 1
    values = change(frames)
    given = {"array": values, "tensor": torch.from_numpy(values).permute(0, 3, 1, 2), "list": list(values)}[form]
    right = LabelPropagator(frames[0], mask, encoder, size=64)
    for call in (
        lambda: extract_features(given, encoder, size=64),
        lambda: propagate_labels(given, mask, encoder, size=64),
        lambda: siammae.propagate_keypoints(given, [[3, 4]], encoder, size=64),
        lambda: encoder.preprocess(given, size=32),
        lambda: LabelPropagator(given[-1], mask, encoder, size=64),
        lambda: right.step(given[-1]),
        lambda: right.add(given[-1], mask),
        lambda: siammae.KeypointPropagator(given[-1], [[3, 4]], encoder, size=64),
        lambda: overlay(given[-1], mask),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_tensors_of_other_values_are_refused_by_the_steps_of_the_library(encoder: Encoder) -> None:
    frames = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert preprocess(frames.half(), encoder, (32, 48)).dtype == torch.float32
    geometry = Geometry.of((32, 48), encoder, 32)
    for wrong, message in (
        (frames * 255, r"floats from .* divide them by"),
        ((frames * 255).long(), r"frames are int64 \[2, 3, 32, 48\]; expected uint8 or floats in \[0, 1\], \[T, 3, H, W\]"),
        (frames > 0.5, r"frames are bool"),
        (frames[:, :1], r"frames are float32 \[2, 1, 32, 48\]; expected"),
        (frames.permute(0, 2, 3, 1), r"frames are float32 \[2, 32, 48, 3\]; expected"),
    ):
        with pytest.raises(ValueError, match=message):
            preprocess(wrong, encoder, (32, 48))
        with pytest.raises(ValueError, match=message.replace(r"\[2, ", r"\[1, ")):
            descriptors(encoder, [wrong[0]], geometry)
    with pytest.raises(ValueError, match="divide them by"):
        EdgeFilter(frames[0] * 255, (2, 3), color=0.1, radius=0.1, eps=1e-4)
