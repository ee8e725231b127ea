"""A default device or number type that a program sets for its own tensors changes nothing here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from siammae import KeypointPropagator, LabelPropagator, extract_features, load_model, ops, propagate_labels, save_model
from siammae.encoder import Encoder
from siammae.models.build import build_encoder
from siammae.models.patches import with_patch_size
from siammae.models.runtimes import export_encoder
from siammae.training.config import OptimConfig
from siammae.training.initial import build_model
from siammae.training.model import masks_for
from siammae.training.model_config import ModelConfig
from siammae.training.optim import build_optimizer
from siammae.visualize import FeatureColors, attention_maps, correspondence

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), dtype=np.uint8)


@contextmanager
def plain() -> Iterator[None]:
    yield


@contextmanager
def another_device() -> Iterator[None]:
    torch.set_default_device("meta")  # its tensors have no numbers: one of them in a computation is an error
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def another_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def first_mask() -> NDArray[np.uint8]:
    mask = np.zeros((64, 96), dtype=np.uint8)
    mask[16:40, 30:60], mask[40:60, 10:30] = 1, 2
    return mask


def masks(encoder: Encoder, folder: Path) -> Any:
    propagator = LabelPropagator(FRAMES[0], first_mask(), encoder, size=64)
    found = [propagator.step(frame) for frame in FRAMES[1:3]]
    corrected = first_mask()
    corrected[:14, 70:] = 3
    propagator.add(FRAMES[2], corrected)
    other = LabelPropagator(FRAMES[0], first_mask(), encoder, size=64)
    other.add(FRAMES[2], corrected)
    other.load_state_dict(propagator.state_dict())
    return [*found, other.step(FRAMES[3]), propagator.step(FRAMES[3])]


def masks_of_presets(encoder: Encoder, folder: Path) -> Any:
    options = {"size": 64, "progress": False}
    return [propagate_labels(FRAMES, first_mask(), encoder, config=name, **options) for name in ("dino", "crw", "cropmae")]


def soft_masks(encoder: Encoder, folder: Path) -> Any:
    soft = np.stack([first_mask() == label for label in range(3)]).astype(np.float32)
    return propagate_labels(FRAMES, soft, encoder, size=64, progress=False)


def keypoints(encoder: Encoder, folder: Path) -> Any:
    found = []
    for config in ("default", "crw"):
        propagator = KeypointPropagator(FRAMES[0], np.array([[20.0, 30.0], [70.5, 50.25]]), encoder, size=64, config=config)
        found += [propagator.step(frame) for frame in FRAMES[1:]]
        propagator.load_state_dict(propagator.state_dict())
    return found


def reference(encoder: Encoder, folder: Path) -> Any:
    random = np.random.default_rng(1)
    query, context, labels = (
        torch.from_numpy(random.standard_normal(shape, dtype=np.float32)) for shape in ((8, 6, 9), (3, 8, 6, 9), (3, 2, 6, 9))
    )
    options: dict[str, Any] = {"radius": 2, "top_k": 4, "temperature": 0.5, "keep_ties": True, "return_matches": True}
    found = [ops.propagate(query, context, labels, implementation=name, **options) for name in ("reference", "tiled")]
    return [(mixed, *matches) for mixed, matches in found]


def features(encoder: Encoder, folder: Path) -> Any:
    found = extract_features(FRAMES, encoder, size=64, progress=False)
    return [found, FeatureColors(found)(found, (64, 96))]


def pictures(encoder: Encoder, folder: Path) -> Any:
    found = correspondence(FRAMES[0], np.array([[20.0, 30.0]]), FRAMES[1], encoder, size=64)
    return [attention_maps(FRAMES[0], encoder, size=64), found]


def models(encoder: Encoder, folder: Path) -> Any:
    built = [build_encoder("vit_tiny_patch16_224", {"depth": 1}), load_model(save_model(encoder, folder / "saved"), device=CPU)]
    built += [load_model("vitt8d6", device=CPU), load_model("timm:vit_tiny_patch16_224", pretrained=False, device=CPU)]
    states = [model.vit.state_dict() for model in (*built[:3], with_patch_size(encoder, 8))]
    return [[state[key] for key in sorted(state)] for state in states]


def exported(encoder: Encoder, folder: Path) -> Any:
    path = export_encoder(encoder, folder / "encoder.pt2", size=(64, 96))
    with CPU:
        program = torch.export.load(path)
    images = torch.from_numpy(np.moveaxis(FRAMES[:1], -1, 1).astype(np.float32) / 255)
    with torch.no_grad():
        return program.module()(images)


def training_steps(encoder: Encoder, folder: Path) -> Any:
    found = []
    changes: list[dict[str, Any]] = [
        {},
        {"decoder": "joint", "mask": "grid"},
        {"target": "features", "teacher": "given", "teacher_channels": 8},
    ]
    for change in changes:
        torch.manual_seed(0)
        config = ModelConfig(
            architecture="vit_tiny_patch16_224", depth=1, patch_size=8, image_size=32, decoder_depth=1, decoder_width=64,
            decoder_heads=2, future_ratio=0.75, **change,
        )  # fmt: skip
        model = build_model(config)
        optimizer = build_optimizer(model, OptimConfig())
        frames = torch.from_numpy(np.moveaxis(FRAMES[:4, :32, :32], -1, 1).copy()).view(2, 2, 3, 32, 32)
        targets = None
        if model.standardizer is not None:
            given = np.random.default_rng(2).standard_normal((2, 2, 16, model.encoder.embed_dim), dtype=np.float32)
            targets = torch.from_numpy(given)
            model.standardizer.estimate(targets)
        arguments = () if targets is None else (targets,)
        for step in range(2):
            optimizer.zero_grad()
            loss = model(frames, masks_for(model, 2, seed=0, micro_batch=step, device=CPU), *arguments)
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        found += [parameter.detach() for parameter in model.parameters()]
    return found


def flat(values: Any) -> list[NDArray[Any]]:
    if isinstance(values, list | tuple):
        return [array for value in values for array in flat(value)]
    assert not isinstance(values, torch.Tensor) or values.device.type == "cpu"
    return [np.asarray(values)]


@pytest.mark.parametrize("defaults", [another_device, another_dtype], ids=["device", "dtype"])
@pytest.mark.parametrize(
    "compute",
    [masks, masks_of_presets, soft_masks, keypoints, reference, features, pictures, models, exported, training_steps],
    ids=lambda function: function.__name__,
)
def test_defaults_of_torch_change_nothing(
    compute: Callable[[Encoder, Path], Any], defaults: Callable[[], Any], encoder: Encoder, tmp_path: Path
) -> None:
    results = []
    for name, context in (("plain", plain), ("other", defaults)):
        (tmp_path / name).mkdir()
        with context():
            results.append(flat(compute(encoder, tmp_path / name)))
    assert len(results[0]) == len(results[1]) > 0
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
