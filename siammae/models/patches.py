"""Weights of one vision transformer for another: other patch size, other grid of positions, LayerScale kept or folded in.

The patch projection is resized by the pseudo-inverse of bicubic resizing (Beyer et al., "FlexiViT", CVPR 2023; timm's
`resample_patch_embed`): what the old projection gives for a patch, the new one gives for the same patch resized, exactly when
patches grow and by least squares when they shrink. LayerScale multiplies what a block adds, so it can be multiplied into the
last linear layer of that branch without changing any feature.

Letters: D channels, N patches of the position table, P tokens with a position before the patches, p pixels of a patch's side.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from siammae.encoder import Encoder
from siammae.models.build import build_encoder, import_timm, sincos_positions

PROJECTION, POSITIONS = "patch_embed.proj.weight", "pos_embed"
SCALES = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2"}  # LayerScale of a block, and the linear layer before it


def fit_weights(state: Mapping[str, Tensor], vit: Any, source: str) -> dict[str, Tensor]:
    """Convert the weights of a plain vision transformer to those of `vit`.

    Args:
        state: weights by timm's keys.
        vit: timm model whose patch size, grid and LayerScale count.
        source: name of the weights, for errors.

    Returns:
        A state dict that `vit` loads strictly. Without LayerScale in `vit` that of `state` is folded into the linear layers;
        with LayerScale in `vit` alone it is 1.

    Raises:
        ValueError: the weights have another width, depth or other parts; the message names both.
    """
    wanted = vit.state_dict()
    fitted = {key: tensor.float() for key, tensor in state.items()}
    here, there = _size(wanted), _size(fitted)
    if here != there:
        raise ValueError(
            f"{source} ({there[0]} channels, {there[1]} blocks) does not fit the run's model ({here[0]} channels, {here[1]} "
            "blocks): set model.architecture and model.depth to those of the weights"
        )
    scaled = {key for key in fitted if key.endswith(tuple(SCALES))}
    if scaled and not any(key.endswith(tuple(SCALES)) for key in wanted):
        fitted = fold_layer_scale(fitted)
    elif not scaled:
        fitted |= {key: torch.ones_like(tensor) for key, tensor in wanted.items() if key.endswith(tuple(SCALES))}
    if PROJECTION in fitted and fitted[PROJECTION].shape[2:] != wanted[PROJECTION].shape[2:]:
        fitted[PROJECTION] = resize_projection(fitted[PROJECTION], int(wanted[PROJECTION].shape[-1]))
    if POSITIONS in fitted and POSITIONS in wanted and fitted[POSITIONS].shape != wanted[POSITIONS].shape:
        fitted[POSITIONS] = _resize_positions(fitted[POSITIONS], vit, source)
    differing = sorted(
        k for k in {*fitted, *wanted} if k not in fitted or k not in wanted or fitted[k].shape != wanted[k].shape
    )
    if differing:
        raise ValueError(
            f"{source} does not fit the run's model: {', '.join(differing[:3])} differ; set model.architecture to that "
            "of the weights"
        )
    return fitted


def fold_layer_scale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply every LayerScale into the linear layer before it: the same features without its keys."""
    folded = {key: tensor for key, tensor in state.items() if not key.endswith(tuple(SCALES))}
    for key, gamma in state.items():
        for scale, linear in SCALES.items():
            if key.endswith(scale):
                layer = key.removesuffix(scale) + linear
                folded[f"{layer}.weight"] = folded[f"{layer}.weight"] * gamma[:, None]
                if f"{layer}.bias" in folded:
                    folded[f"{layer}.bias"] = folded[f"{layer}.bias"] * gamma
    return folded


def resize_projection(weight: Tensor, patch_size: int) -> Tensor:
    """Resize a patch projection [D, 3, p, p] to [D, 3, patch_size, patch_size] by the pseudo-inverse."""
    import_timm()
    from timm.layers.patch_embed import resample_patch_embed

    resized: Tensor = resample_patch_embed(weight, [patch_size, patch_size])
    return resized


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resample a position table [1, P + N, D] from a grid of `old` (h, w) patches to `new`, as timm does for other sizes."""
    import_timm()
    from timm.layers.pos_embed import resample_abs_pos_embed

    prefix = table.shape[1] - old[0] * old[1]
    resampled: Tensor = resample_abs_pos_embed(table, new_size=list(new), old_size=list(old), num_prefix_tokens=prefix)
    return resampled


def has_fixed_positions(encoder: Encoder) -> bool:
    """Check whether the encoder's positions are the fixed sin-cos table of SiamMAE, which exists exactly for any grid."""
    height, width = encoder.vit.patch_embed.grid_size
    table = encoder.vit.pos_embed
    if table is None or table.shape[1] != 1 + height * width:
        return False
    return torch.allclose(table[0, 1:].float().cpu(), sincos_positions(height, width, table.shape[2]), atol=2e-3)


def with_patch_size(encoder: Encoder, patch_size: int) -> Encoder:
    """Make the same encoder with another patch size and the same grid of positions.

    Frames are to be resized in proportion: a model of patch 14 at 420 pixels becomes one of patch 8 at 240 pixels, with the
    same number of patches of the same content.

    Raises:
        ValueError: `patch_size` is below 1, or the architecture has no plain patch projection.
    """
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or not 1 <= patch_size <= 256:
        raise ValueError(f"patch_size is {patch_size!r}; expected a whole number of pixels, 1 to 256")
    if patch_size == encoder.patch_size:
        return encoder
    height, width = encoder.vit.patch_embed.grid_size
    sides = (height * patch_size, width * patch_size)
    args = {**encoder.model_args, "patch_size": patch_size, "img_size": sides[0] if height == width else sides}
    try:
        resized = build_encoder(
            encoder.architecture,
            args,
            initial_weights=False,
            mean=encoder.mean,
            std=encoder.std,
            name=encoder.name,
            metadata={**_without_scores(encoder.metadata), "resized_from": {"patch_size": encoder.patch_size}},
        )
    except TypeError as error:
        raise ValueError(f"{encoder.name} ({encoder.architecture}) takes no other patch size: {error}") from error
    resized.vit.load_state_dict(fit_weights(encoder.vit.state_dict(), resized.vit, encoder.name))
    resized.projection = encoder.projection
    return resized.to(encoder.device, encoder.dtype).train(encoder.training)


def with_architecture(encoder: Encoder, architecture: str) -> Encoder:
    """Make the same encoder in another of timm's architectures of the same size, such as one without LayerScale.

    Raises:
        ValueError: the weights do not fit that architecture.
    """
    same: dict[str, Any] = {name: getattr(encoder, name) for name in ("mean", "std", "default_size", "name")}
    args = {"patch_size": encoder.patch_size, "img_size": encoder.vit.patch_embed.img_size} | encoder.model_args
    other = build_encoder(architecture, args, initial_weights=False, metadata=_without_scores(encoder.metadata), **same)
    other.vit.load_state_dict(fit_weights(encoder.vit.state_dict(), other.vit, encoder.name))
    other.projection = encoder.projection
    return other.to(encoder.device, encoder.dtype).train(encoder.training)


def _without_scores(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Copy an encoder's metadata without the scores, which belong to the weights as they were."""
    return {key: value for key, value in metadata.items() if key not in ("evaluations", "metrics")}


def _size(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Channels and blocks of a vision transformer's weights."""
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    return (len(state[PROJECTION]) if PROJECTION in state else 0), len(blocks)


def _resize_positions(table: Tensor, vit: Any, source: str) -> Tensor:
    """A square table [1, P + N, D] for the grid of `vit`; P is the same for both."""
    height, width = vit.patch_embed.grid_size
    prefix = vit.pos_embed.shape[1] - height * width
    side = round(max(0, table.shape[1] - prefix) ** 0.5)
    if side < 1 or side**2 != table.shape[1] - prefix:
        raise ValueError(
            f"{source} has positions of {table.shape[1]} tokens; expected {prefix} and a square grid, as the model has"
        )
    return resize_positions(table, (side, side), (height, width))
