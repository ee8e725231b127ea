"""Encoder: a timm vision transformer seen as a dense feature extractor.

Letters: B images, H x W pixels, h x w grid cells (one for each patch), D channels, A attention heads, P prefix tokens (CLS,
registers).
"""

import copy
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from numbers import Integral
from typing import Any, Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from siammae.ops.matmul import bfloat16_is_faster, bfloat16_products, fast_linear
from siammae.ops.resize import antialiasing_anywhere

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Precision = Literal["auto", "float32"]


class Runtime(Protocol):
    """A library that runs the blocks of an encoder instead of torch."""

    name: str

    def __call__(self, encoder: "Encoder", tokens: Tensor) -> Tensor:
        """Run tokens [B, N, D] through the encoder's blocks and final LayerNorm: [B, N, D]."""


MOST = 20.0  # values that no normalised image reaches: those of white and black are below 3
PREPROCESS = "model.preprocess(frames) makes such images of frames in any form"

DEFAULT_GRID = 30  # cells along the shorter side when no size is asked for: 480 pixels at patch 16, 240 at patch 8


class Encoder(nn.Module):
    """A vision transformer that turns images into a grid of features.

    The wrapped timm model is `vit`; its state dict, with timm's own keys, is what is saved and loaded.

    Attributes:
        name: the name given to `load_model`, or the architecture.
        architecture: timm's name of the architecture; with `model_args` it rebuilds the model.
        model_args: keyword arguments of `timm.create_model` beyond the architecture.
        patch_size: side of a patch in pixels.
        embed_dim: D, channels of a feature.
        depth: number of transformer blocks.
        mean, std: of each RGB channel in [0, 1]; images must be normalised with them before `forward`.
        default_size: shorter side in pixels at which frames are encoded when none is asked for.
        projection: linear map with which the features of the last block are compared, or None (`siammae.models.projection`).
        metadata: facts about the weights (license, data, training, metrics), saved and loaded with them.
        precision: how float32 weights compute on the CPU without gradients: "float32", or "auto", by which matrix products take
            bfloat16 where the CPU has instructions for it (`load_model` sets this). Weights and features stay float32.
        runtime: what computes the features of the last block without gradients; None is torch, which computes all else.
    """

    def __init__(
        self,
        vit: Any,
        *,
        architecture: str,
        model_args: Mapping[str, Any],
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        default_size: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if precision not in ("auto", "float32"):
            raise ValueError(f"precision is {precision!r}; expected 'auto' or 'float32'")
        self.precision: Precision = precision
        self.runtime: Runtime | None = None
        embedding = getattr(vit, "patch_embed", None)
        plain = hasattr(embedding, "patch_size") and not hasattr(embedding, "backbone")  # hybrids embed what a ConvNet gives
        if not plain or not hasattr(vit, "blocks") or not hasattr(vit, "forward_intermediates"):
            kind = type(vit).__name__
            raise ValueError(f"{architecture} is a {kind}; an Encoder needs one of timm's plain vision transformers")
        self.vit = vit
        self.architecture = architecture
        self.model_args = dict(model_args)
        self.mean, self.std = tuple(mean), tuple(std)
        self.name = name or architecture
        self.metadata = dict(metadata or {})
        self.projection: nn.Module | None = None
        self.patch_size: int = self.vit.patch_embed.patch_size[0]
        self.embed_dim: int = self.vit.num_features
        self.depth = len(self.vit.blocks)
        self.default_size = default_size or DEFAULT_GRID * self.patch_size

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def digest(self) -> str:
        """Return the SHA-256 of all weights, and of the projection: equal for equal names, types and values."""
        digest = hashlib.sha256()
        projection = self.projection.state_dict(prefix="projection.") if self.projection else {}
        for key, tensor in sorted(self.vit.state_dict().items()) + sorted(projection.items()):
            digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def from_timm(cls, vit: Any, **attributes: Any) -> "Encoder":
        """Make an Encoder of one of timm's vision transformers, with which it shares blocks and weights.

        It takes images of any size in whole patches, on the device of `vit`, and puts the blocks into eval mode; otherwise
        `vit` stays as it is. `attributes` are keyword
        arguments of Encoder; mean, std and architecture are those of timm's `pretrained_cfg` if not given.

        Raises:
            ValueError: another kind of model.
        """
        cfg = getattr(vit, "pretrained_cfg", None) or {}
        embedding: Any = getattr(vit, "patch_embed", None)
        fits = isinstance(vit, nn.Module) and hasattr(vit, "dynamic_img_size") and hasattr(embedding, "output_fmt")
        if not fits:
            raise ValueError(f"the model is a {type(vit).__name__}; expected one of timm's plain vision transformers")
        own, patches = copy.copy(vit), copy.copy(embedding)
        patches.strict_img_size, patches.flatten, patches.dynamic_img_pad = False, False, False
        patches.output_fmt = type(patches.output_fmt)("NHWC")
        own._modules = {**vit._modules, "patch_embed": patches, "head": nn.Identity()}
        own.dynamic_img_size, own.num_classes = True, 0
        sizes = {"patch_size": patches.patch_size[0], "img_size": patches.img_size[0], "depth": len(vit.blocks)}
        given = {
            "architecture": cfg.get("architecture") or type(vit).__name__,
            "model_args": {**sizes, "embed_dim": vit.embed_dim, "num_heads": vit.blocks[0].attn.num_heads},
            "mean": cfg.get("mean", IMAGENET_MEAN),
            "std": cfg.get("std", IMAGENET_STD),
            **attributes,
        }
        return cls(own, **given).eval()

    def preprocess(self, frames: Any, *, size: Any = None) -> Tensor:
        """Prepare frames for this model: images [B, 3, H, W] on its device, resized to whole patches and normalised.

        Args:
            frames: anything that `siammae.read_frames` takes, or one PIL image.
            size: shorter side of the images in pixels, or (H, W); None is `default_size`.

        Raises:
            ValueError: what `read_frames` and `siammae.Geometry.of` raise.
        """
        from siammae.features import prepare

        return prepare(frames, self, size)

    def forward(self, images: Tensor, *, layer: int = -1) -> Tensor:
        """Return the features of every cell.

        Args:
            images: [B, 3, H, W], normalised with `mean` and `std`, both sides multiples of `patch_size`, as
                `preprocess` makes them.
            layer: -1 for the last block followed by the final LayerNorm; or a block, 0 to depth - 1 or -depth to -2,
                for its own output. `layers` gives several.

        Returns:
            [B, D, h, w] in the model's dtype, channels last in memory.

        Raises:
            ValueError: images that are no such tensor, or not normalised, or a layer that does not exist. Values from 0 to 1,
                which a normalised image hardly ever has alone, give a warning.
        """
        _, patches = self._tokens(images, layer)
        return self._grid(patches, images)

    def layers(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the features [B, D, h, w] of several layers in one pass, in their order; see `forward`."""
        indices = [self._block_index(layer) for layer in layers]
        with fast_linear():
            tokens = self.vit.forward_intermediates(
                self._checked(images),
                indices=sorted(set(indices)),
                output_fmt="NLC",
                intermediates_only=True,
                stop_early=True,
            )
        of_block = dict(zip(sorted(set(indices)), tokens, strict=True))
        final = (
            self.vit.norm(of_block[index]) if layer == -1 else of_block[index]
            for layer, index in zip(layers, indices, strict=True)
        )
        return [self._grid(patches, images) for patches in final]

    def _grid(self, patches: Tensor, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return rearrange(patches, "b (h w) d -> b d h w", h=height // self.patch_size, w=width // self.patch_size)

    def embed(self, images: Tensor) -> Tensor:
        """Return the tokens [B, P + hw, D] of images [B, 3, H, W] as they enter the first block, with their positions."""
        with antialiasing_anywhere(self.device):
            tokens: Tensor = self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(self._checked(images))))
        return tokens

    def encode(self, tokens: Tensor) -> Tensor:
        """Run tokens [B, N, D], all of an image's or a subset, through the blocks and the final LayerNorm: [B, N, D]."""
        encoded: Tensor = self.vit.norm(self.vit.blocks(tokens))
        return encoded

    def cls(self, images: Tensor, *, layer: int = -1) -> Tensor:
        """Return the CLS token [B, D] of images [B, 3, H, W]; `layer` as in `forward`."""
        prefix, _ = self._tokens(images, layer)
        if getattr(self.vit, "cls_token", None) is None:
            raise ValueError(f"{self.name} has no CLS token")
        return prefix[:, 0]

    def attention(self, images: Tensor, *, layer: int = -1) -> Tensor:
        """Return the attention of the CLS token to every cell in one block, per head.

        SiamMAE's project page shows these maps for the last block.

        Args:
            images: [B, 3, H, W], normalised.
            layer: block, -depth to depth - 1; -1 for the last.

        Returns:
            [B, A, h, w], float32; a head's weights add up to 1 together with those of the prefix tokens.
        """
        block = self.vit.blocks[self._block_index(layer)]
        attention: Any = getattr(block, "attn", None)
        plain = hasattr(attention, "qkv") and hasattr(attention, "q_norm") and not hasattr(self.vit, "rope")
        if not plain or getattr(self.vit, "cls_token", None) is None:
            raise ValueError(f"{self.name} has no CLS token with plain self-attention: no CLS attention map to show")
        with self._products():
            tokens = block.norm1(self._input_of_block(self._block_index(layer), images))  # [B, P + hw, D]
        height, width = images.shape[-2:]
        qkv = rearrange(attention.qkv(tokens), "b n (three a d) -> three b a n d", three=3, a=attention.num_heads)
        query, key = attention.q_norm(qkv[0][:, :, :1]).float(), attention.k_norm(qkv[1]).float()
        weights = torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]), dim=-1)  # [B, A, 1, P + hw]
        patches = weights[:, :, 0, self.vit.num_prefix_tokens :]
        return rearrange(patches, "b a (h w) -> b a h w", h=height // self.patch_size, w=width // self.patch_size)

    @property
    def multiplies(self) -> torch.dtype:
        """Number type of the matrix products without gradients: the weights' own, or bfloat16 by `precision`."""
        wide = self.precision == "auto" and self.device.type == "cpu" and self.dtype == torch.float32
        return torch.bfloat16 if wide and bfloat16_is_faster() else self.dtype

    def exact(self) -> "Encoder":
        """Return an encoder with the same weights, not copied, that computes in their own number type, by torch."""
        encoder = copy.copy(self)
        encoder.precision, encoder.runtime = "float32", None
        return encoder

    def _by_runtime(self, what: str | None) -> Runtime | None:
        """Return the runtime if it can be used now, and warn once if it was asked for `what` only torch computes."""
        usable = self.device.type == "cpu" and self.dtype == torch.float32 and not torch.is_grad_enabled()
        if self.runtime is not None and (what or not usable):
            reason = what or ("gradients" if torch.is_grad_enabled() else f"{self.dtype} on {self.device}")
            warnings.warn(f"torch computes {reason} of {self.name}: {self.runtime.name} cannot", stacklevel=4)
            return None
        return self.runtime

    def _products(self) -> AbstractContextManager[Any]:
        """Return the context in which images are encoded."""
        plain = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if self.multiplies == self.dtype or plain:
            return fast_linear()
        return bfloat16_products()

    def _tokens(self, images: Tensor, layer: int, purpose: str | None = None) -> tuple[Tensor, Tensor]:
        """Return prefix tokens [B, P, D] and patch tokens [B, hw, D] of one block; a warning names the `purpose`."""
        runtime = self._by_runtime(None if layer == -1 else purpose or f"layer {layer}")
        if runtime is not None:
            tokens = runtime(self, self.embed(images))
            return tokens[:, : self.vit.num_prefix_tokens], tokens[:, self.vit.num_prefix_tokens :]
        has_prefix = self.vit.num_prefix_tokens > 0
        with self._products(), antialiasing_anywhere(self.device):
            (tokens,) = self.vit.forward_intermediates(
                self._checked(images),
                indices=[self._block_index(layer)],
                norm=layer == -1,
                return_prefix_tokens=has_prefix,
                output_fmt="NLC",
                intermediates_only=True,
                stop_early=True,
            )
        patches, prefix = tokens if has_prefix else (tokens, tokens[:, :0])
        return prefix, patches

    def _input_of_block(self, index: int, images: Tensor) -> Tensor:
        """Return all tokens [B, P + hw, D] as they enter a block."""
        return torch.cat(self._tokens(images, index - 1, "attention maps"), dim=1) if index > 0 else self.embed(images)

    def _checked(self, images: Tensor) -> Tensor:
        """Check that images [B, 3, H, W] fit the patches; return them on the model's device and in its dtype."""
        if not isinstance(images, Tensor):
            raise ValueError(f"images are a {type(images).__name__}; expected a tensor [B, 3, H, W]: {PREPROCESS}")
        if not images.is_floating_point():
            raise ValueError(f"images hold {images.dtype}; expected normalised floats: {PREPROCESS}")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {list(images.shape)}; expected [B, 3, H, W]")
        height, width = images.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            raise ValueError(
                f"images are {height} x {width} pixels; both sides must be multiples of the patch size {patch} "
                "(siammae.features.preprocess resizes frames so)"
            )
        if not (self.training or _in_graph()):
            _check_normalized(images.detach())
        return images.to(self.device, self.dtype)

    def _block_index(self, layer: int) -> int:
        if isinstance(layer, bool) or not isinstance(layer, Integral):
            raise ValueError(f"layer is {layer!r}; expected the number of a block (`layers` takes several)")
        if not -self.depth <= layer < self.depth:
            raise ValueError(f"layer is {layer}; {self.name} has {self.depth} blocks: {-self.depth} to {self.depth - 1}")
        return layer % self.depth


_normalized: ContextVar[bool] = ContextVar("normalized", default=False)


@contextmanager
def normalized_images() -> Iterator[None]:
    """Vouch that the images in this block are normalised: then a picture between grey and light grey is not doubted."""
    token = _normalized.set(True)
    try:
        yield
    finally:
        _normalized.reset(token)


def _check_normalized(images: Tensor) -> None:
    """Raise ValueError for values that no normalised image has; warn of those that look like a frame's, from 0 to 1."""
    low, high = (float(value) for value in images.aminmax())
    if not max(-low, high) <= MOST:
        raise ValueError(f"images hold values up to {max(-low, high):g}, so they are not normalised: {PREPROCESS}")
    if 0 <= low < high <= 1 and not _normalized.get():
        message = f"images hold values from {low:.3g} to {high:.3g}, as frames do that are not normalised yet: {PREPROCESS}"
        warnings.warn(message, stacklevel=5)


def _in_graph() -> bool:
    """Tell if the call is being compiled, traced or captured, when no value can be read."""
    captured = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or captured
