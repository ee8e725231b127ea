"""The building of encoders: a timm architecture, with the initial weights that SiamMAE starts from.

Letters: h x w cells, D channels.
"""

from collections.abc import Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from siammae.encoder import Encoder

COMMON_ARGS = {"num_classes": 0, "dynamic_img_size": True}  # arguments of timm.create_model that every encoder has


def import_timm() -> ModuleType:
    """Import timm, or raise one error that says how to repair a torch and torchvision that do not fit each other."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        versions = ", ".join(f"{name} {_installed_version(name)}" for name in ("timm", "torch", "torchvision"))
        raise ImportError(
            f"timm cannot be imported ({versions}): {error}. torch and torchvision are most likely builds that do not "
            "belong together; install a matching pair with: pip install --upgrade torch torchvision timm"
        ) from error
    return timm


def _installed_version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


def build_encoder(
    architecture: str,
    model_args: Mapping[str, Any],
    *,
    initial_weights: bool = True,
    device: str | torch.device = "cpu",
    **attributes: Any,
) -> Encoder:
    """Build a float32 Encoder of one of timm's architectures, for images of any size.

    With `initial_weights` it has those that SiamMAE starts from, the same each time; otherwise the caller loads some.
    """
    timm = import_timm()
    with torch.random.fork_rng(devices=[]), torch.device(device):  # timm draws its own weights, which are replaced
        vit = timm.create_model(architecture, **COMMON_ARGS, **model_args).float()
    if initial_weights:
        initialize(vit, torch.Generator().manual_seed(0))
    return Encoder(vit, architecture=architecture, model_args=model_args, **attributes)


@torch.no_grad()
def initialize(vit: Any, generator: torch.Generator) -> None:
    """Set a plain vision transformer's initial weights as MAE does (SiamMAE follows it, App. A), in place.

    Linear layers and the patch projection (seen as a linear layer) are Xavier-uniform with zero biases, the CLS token is
    normal with deviation 0.02, LayerNorms are the identity, positions are the fixed sin-cos table.
    """
    height, width = vit.patch_embed.grid_size
    positions = getattr(vit, "pos_embed", None)
    if vit.cls_token is None or positions is None or positions.shape[1] != 1 + height * width:
        raise ValueError("SiamMAE's initial weights are for vision transformers with a CLS token, positions and no registers")
    for module in vit.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    projection = vit.patch_embed.proj
    nn.init.xavier_uniform_(projection.weight.view(projection.weight.shape[0], -1), generator=generator)
    nn.init.zeros_(projection.bias)
    nn.init.normal_(vit.cls_token, std=0.02, generator=generator)
    positions[0, 0] = 0
    positions[0, 1:] = sincos_positions(height, width, vit.embed_dim)
    positions.requires_grad_(False)


def sincos_positions(height: int, width: int, dim: int) -> Tensor:
    """Return the fixed 2-D position table [height * width, dim], row by row.

    The first half of the channels encodes the column x, the second half the row y. Each half is the sines, then the
    cosines, of the coordinate times 10000^(-i / (dim / 4)) for i = 0 .. dim / 4 - 1.
    """
    if dim % 4:
        raise ValueError(f"dim is {dim}; a 2-D sin-cos table needs a multiple of 4")
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64, device="cpu") / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(height, device="cpu"), torch.arange(width, device="cpu"), indexing="ij")
    angles = torch.stack([columns, rows]).flatten(1)[..., None] * frequencies  # [2, height * width, dim / 4]
    table = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return rearrange(table, "two n d -> n (two d)").float()
