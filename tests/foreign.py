"""Checkpoints with the keys and shapes that other people's code writes."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from siammae.models.build import sincos_positions


def encoder_state(depth: int = 12, width: int = 384, patch: int = 16) -> dict[str, Tensor]:
    """Random weights by the keys of MAE's encoder: 150 tensors at depth 12."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, (224 // patch) ** 2 + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for index in range(depth):
        for key, shape in (
            ("norm1.weight", (width,)),
            ("norm1.bias", (width,)),
            ("attn.qkv.weight", (3 * width, width)),
            ("attn.qkv.bias", (3 * width,)),
            ("attn.proj.weight", (width, width)),
            ("attn.proj.bias", (width,)),
            ("norm2.weight", (width,)),
            ("norm2.bias", (width,)),
            ("mlp.fc1.weight", (4 * width, width)),
            ("mlp.fc1.bias", (4 * width,)),
            ("mlp.fc2.weight", (width, 4 * width)),
            ("mlp.fc2.bias", (width,)),
        ):
            shapes[f"blocks.{index}.{key}"] = shape
    return {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}


def decoder_state(family: str, patch: int = 16, width: int = 384) -> dict[str, Tensor]:
    """Random weights by the keys that each family has beside the encoder's."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    def linear(name: str, inside: int, out: int) -> dict[str, Tensor]:
        return {f"{name}.weight": random(out, inside), f"{name}.bias": random(out)}

    def norm(name: str, size: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + random(size), f"{name}.bias": random(size)}

    if family == "mae":
        return {}
    crop = family in ("cropmae", "catmae")
    size, depth = (256, 4) if crop else (512, 8)
    side = 224 // patch
    positions = torch.cat([torch.zeros(1, size), sincos_positions(side, side, size)])[None]
    state = {"mask_token": random(1, 1, size), "decoder_pos_embed": positions}
    state |= norm("decoder_norm", size) | linear("decoder_pred", size, 3 * patch**2)
    state |= linear("decoder_embed" if crop else "decoder_embed_mae", width, size)
    for index in range(depth):
        block = f"decoder_blocks.{index}"
        if crop:
            for attention in ("self_attn", "multihead_attn"):
                state[f"{block}.{attention}.in_proj_weight"] = random(3 * size, size)
                state[f"{block}.{attention}.in_proj_bias"] = random(3 * size)
                state |= linear(f"{block}.{attention}.out_proj", size, size)
            state |= linear(f"{block}.linear1", size, 2048) | linear(f"{block}.linear2", 2048, size)
            state |= norm(f"{block}.norm1", size) | norm(f"{block}.norm2", size) | norm(f"{block}.norm3", size)
        else:
            for name in ("norm1", "norm_kv1", "norm3", "norm4"):
                state |= norm(f"{block}.{name}", size)
            state |= linear(f"{block}.cattn.q", size, size) | linear(f"{block}.cattn.kv", size, 2 * size)
            state |= linear(f"{block}.cattn.proj", size, size) | linear(f"{block}.attn.qkv", size, 3 * size)
            state |= linear(f"{block}.attn.proj", size, size)
            state |= linear(f"{block}.mlp2.fc1", size, 4 * size) | linear(f"{block}.mlp2.fc2", 4 * size, size)
    if family == "catmae":
        state["decoder_frame_info"] = random(2, 1, 1, size)
    if family == "rsp":
        state |= linear("to_posterior.0", 2 * width, 2 * width) | linear("to_posterior.2", 2 * width, 1024)
        state |= linear("to_prior.0", width, 2 * width) | linear("to_prior.2", 2 * width, 1024)
        state |= linear("decoder_embed_deter", width, size) | linear("decoder_embed_stoch", 1024, size)
    return state


def checkpoint(path: Path, family: str, prefix: str = "", **encoder: int) -> Path:
    """A file as MAE's training script saves it, with the options of the run in it."""
    state = encoder_state(**encoder) | decoder_state(family, encoder.get("patch", 16), encoder.get("width", 384))
    content = {
        "model": {prefix + key: tensor for key, tensor in state.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "epoch": 399,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="mae_vit", lr=None, output_dir="out"),
    }
    torch.save(content, path)
    return path
