"""Encoders for other runtimes: ONNX files and torch.export programs, checked against the original before they are written.

Letters: B images, H x W pixels, h x w cells, D channels.
"""

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from siammae.encoder import Encoder
from siammae.files import atomic, check_output
from siammae.models.load import as_encoder

SUFFIXES = ".onnx", ".pt2"
TOLERANCE = 1e-3  # features may differ from torch's by this share of the largest
MOST_PATCHES = 512  # most patches along a side of dynamic sizes

Sizes = list[tuple[int, int, int]]  # B, H, W


class _Dense(nn.Module):
    """The timm model alone: images [B, 3, H, W] to features [B, D, h, w]."""

    def __init__(self, encoder: Encoder, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.vit = copy.deepcopy(encoder.vit).cpu().float()
        if size is not None:
            self.vit.set_input_size(img_size=size)  # fix the table of positions at this size
        self.patch_size, self.num_prefix = encoder.patch_size, encoder.vit.num_prefix_tokens

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.vit.forward_features(images)[:, self.num_prefix :]
        height, width = (side // self.patch_size for side in images.shape[-2:])
        features: Tensor = rearrange(tokens, "b (h w) d -> b d h w", h=height, w=width)
        return features


@torch.no_grad()
def export_encoder(
    model: str | os.PathLike[str] | Encoder, path: str | os.PathLike[str], *, size: tuple[int, int] | None = None
) -> Path:
    """Write an encoder for another runtime, if the written model computes the same features.

    It takes images [B, 3, H, W], float32, normalised with the encoder's `mean` and `std` (`siammae.features.preprocess`), and
    returns features [B, D, h, w] of the last block and final LayerNorm.

    Args:
        model: an Encoder, or a name for `load_model`.
        path: .onnx for ONNX (needs `pip install "siammae[export]"`), .pt2 for torch.export.
        size: (H, W) of the images, for which the table of positions is made; None allows any size and number of images.

    Returns:
        The path.

    Raises:
        ValueError: another suffix; a size that is not whole patches; a model that cannot be exported, or only for a fixed size.
        ImportError: the packages for ONNX are not installed.
    """
    suffix, encoder = check_output(path, SUFFIXES), as_encoder(model)
    patch = encoder.patch_size
    if size is not None and (size[0] < patch or size[1] < patch or size[0] % patch or size[1] % patch):
        raise ValueError(f"size is {size[0]} x {size[1]} pixels; expected whole patches of {encoder.name}, {patch} pixels")
    first = (1, *size) if size else (2, 4 * patch, 6 * patch)
    sizes: Sizes = [first] if size else [first, (1, 7 * patch, 5 * patch), (3, 3 * patch, 9 * patch)]
    module, images = _Dense(encoder, size).eval(), torch.randn(first[0], 3, *first[1:], dtype=torch.float32, device="cpu")
    dynamic = None
    if size is None:
        sides = (torch.export.Dim(name, min=2, max=MOST_PATCHES) for name in ("rows", "columns"))
        dynamic = {
            "images": {0: torch.export.Dim("images", min=1, max=1024), **{2 + i: patch * side for i, side in enumerate(sides)}}
        }
    write = {".onnx": _write_onnx, ".pt2": _write_program}[suffix]
    with atomic(path) as draft:
        try:
            with _quietly(), torch.device("cpu"):
                run = write(module, images, dynamic, draft)
        except (ImportError, OSError):
            raise
        except Exception as error:
            shape = f"{size[0]} x {size[1]}" if size else "any size; try a fixed one"
            raise ValueError(
                f"{encoder.name} cannot be exported as {suffix} for {shape}: {type(error).__name__}: {error}"
            ) from error
        _check(run, module, encoder, sizes)
    return Path(path)


def _write_program(module: nn.Module, images: Tensor, dynamic: Any, path: Path) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(module, (images,), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return loaded


def _write_onnx(module: nn.Module, images: Tensor, dynamic: Any, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise ImportError(f'ONNX files need more packages: pip install "siammae[export]" ({error})') from error
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["features"]}
    torch.onnx.export(module, (images,), path, dynamo=True, dynamic_shapes=dynamic, external_data=False, verbose=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _check(run: Callable[[Tensor], Tensor], module: nn.Module, encoder: Encoder, sizes: Sizes) -> None:
    """Raise ValueError if the written model computes other features."""
    for number, height, width in sizes:
        images = torch.randn(number, 3, height, width, dtype=torch.float32, device="cpu")
        expected, actual = module(images), run(images)
        difference = float((actual - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{encoder.name}: at {height} x {width} pixels the exported model differs by {difference:.2g} of the largest "
                "feature, so it is not written"
            )


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence torch's exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
