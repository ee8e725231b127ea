"""Other people's checkpoints as model folders: CropMAE, CatMAE, RSP, ToBo and MAE share MAE's encoder, key by key.

Keys and shapes tell whose checkpoint it is. No code of a file is run: a pickle may hold only tensors, argparse's Namespace and
plain data, such as numbers, paths and dates.
"""

import argparse
import hashlib
import math
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from siammae.encoder import Encoder
from siammae.errors import WeightsError
from siammae.files import atomic_folder, read_tensors, save_tensors
from siammae.models.build import build_encoder, sincos_positions
from siammae.models.folder import DECODER_FILE, MODEL_FILES, write_model
from siammae.models.patches import with_patch_size

Family = Literal["cropmae", "catmae", "rsp", "tobo", "mae"]

PATCH_KEY = "patch_embed.proj.weight"
ENCODER_KEYS = "cls_token", "pos_embed", "patch_embed.", "blocks.", "norm."  # how the encoder's keys begin
HEAD_DIM = 64  # channels of an attention head in every ViT of these families

ARCHITECTURES = {  # timm's names and default depths, by width
    192: ("vit_tiny_patch16_224", 12),
    384: ("vit_small_patch16_224", 12),
    768: ("vit_base_patch16_224", 12),
    1024: ("vit_large_patch16_224", 24),
}

PAPERS = {
    "cropmae": "CropMAE (Eymaël et al., ECCV 2024)",
    "catmae": "CatMAE (Jiang et al., 2023)",
    "rsp": "RSP (Jang et al., NeurIPS 2024)",
    "tobo": "ToBo (Kim et al., 2025)",
    "mae": "MAE (He et al., CVPR 2022)",
}


class _Plain:
    """A stand-in for plain data of a pickle that is not needed: it takes what a pickle gives it, and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _stand_ins(names: Mapping[str, str]) -> list[type]:
    """Make a `_Plain` for each type of these modules, known by the name of the type."""
    return [
        type(name, (_Plain,), {"__module__": module, "__qualname__": name})
        for module, types in names.items()
        for name in types.split()
    ]


_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
PLAIN_DATA = _stand_ins(
    {
        "pathlib": _PATHS,
        "pathlib._local": _PATHS,  # Python 3.13
        "numpy.core.multiarray": "scalar _reconstruct",
        "numpy._core.multiarray": "scalar _reconstruct",
        "numpy": "dtype ndarray",
        "_codecs": "encode",  # the bytes of numpy's numbers
        "datetime": "datetime date time timedelta timezone",
        "uuid": "UUID",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "builtins": "frozenset slice range",
    }
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's contents.

    Attributes:
        family: whose code wrote it.
        encoder: the encoder's weights by timm's keys.
        rest: all other weights by the file's keys, such as a decoder's.
    """

    family: Family
    encoder: dict[str, Tensor]
    rest: dict[str, Tensor]


def convert(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    family: Family | Literal["auto"] = "auto",
    heads: int | None = None,
    patch_size: int | None = None,
    name: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the encoder of a published checkpoint as a model folder.

    Args:
        checkpoint: .pth, .pt or .safetensors of CropMAE, CatMAE, RSP, ToBo or MAE.
        folder: the model folder to write; it appears whole or not at all. It holds the decoder too if siammae's training model
            can run that (ToBo's).
        family: whose checkpoint it is; "auto" recognizes it by its keys.
        heads: attention heads of the encoder; None means one for every 64 channels, as in all these families.
        patch_size: side of a patch in pixels, if it is to differ from the checkpoint's (`siammae.models.patches`). The decoder
            is left out then, since it predicts patches of the old size.
        name: name of the model; None takes the folder's name.
        license: license of the weights, such as "mit", as their owners state it.
        overwrite: replace `folder` if it exists.

    Returns:
        The folder.

    Raises:
        WeightsError: the file is missing, damaged, holds something other than tensors, or is of no known family.
        FileExistsError: `folder` exists and `overwrite` is off, or it holds other files too.
    """
    path, target = Path(checkpoint), Path(folder).absolute()
    with atomic_folder(target, overwrite=overwrite, files={*MODEL_FILES, DECODER_FILE}) as draft:
        content = read_checkpoint(path)
        if family not in ("auto", content.family):
            raise WeightsError(f"{path} looks like {PAPERS[content.family]}, not {family}; use --from {content.family} or auto")
        encoder = _encoder(content, path, heads)
        resized = patch_size is not None and patch_size != encoder.patch_size
        has_decoder = content.family == "tobo" and not resized and _has_fixed_positions(content.rest)
        decoder = _tobo_decoder(content.rest) if has_decoder else {}
        if patch_size is not None:
            encoder = with_patch_size(encoder, patch_size)
        encoder.name = name or target.name
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        encoder.metadata = {
            "license": license,
            "source": {
                "method": PAPERS[content.family],
                "file": path.name,
                "sha256": digest,
                "left_out": len(content.rest) - len(decoder),
                **encoder.metadata,
            },
            "decoder": _decoder_config(encoder, decoder) if decoder else None,
        }
        write_model(encoder, draft)
        if decoder:
            save_tensors(draft / DECODER_FILE, decoder)
    return Path(folder)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and sort its weights; WeightsError if it cannot be read or is of no known family."""
    state = _read(path)
    prefixes = [key.removesuffix(PATCH_KEY) for key in state if key.endswith(PATCH_KEY)]
    if len(prefixes) != 1:
        several = f"{len(prefixes)} encoders ({', '.join(prefixes)})" if prefixes else f"no key that ends in {PATCH_KEY}"
        raise WeightsError(
            f"{path} has {several}; expected the one encoder of CropMAE, CatMAE, RSP, ToBo or MAE. {_keys(state)}"
        )
    stripped = {key.removeprefix(prefixes[0]): tensor for key, tensor in state.items()}
    encoder = {key: tensor for key, tensor in stripped.items() if key.startswith(ENCODER_KEYS)}
    rest = {key: tensor for key, tensor in stripped.items() if key not in encoder}
    return Checkpoint(_family(rest, path), encoder, rest)


def _read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name, from whichever mapping holds them."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *PLAIN_DATA]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = re.search(r"WeightsUnpickler error: (.*)", str(error))
        why = reason[1].strip() if reason else "no reason given"
        what = f"an object of the type {refused[1]}" if refused else f"what torch does not read ({why})"
        raise WeightsError(
            f"{path} holds {what}, so it is not read: a pickle can run any code. Tensors, numbers, texts, paths, dates and "
            "argparse.Namespace are allowed; have its owner save the state dict alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise WeightsError(
            f"{path} is damaged or no checkpoint: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(
            f"{path} holds a {type(content).__name__} with no state dict in it; expected tensors by name, or under 'model'"
        )
    return {str(key): value for key, value in content.items()}


def _family(rest: Mapping[str, Tensor], path: Path) -> Family:
    """Find out whose code wrote the weights, from those that are not the encoder's."""
    if "decoder_frame_info" in rest:
        return "catmae"
    if "decoder_blocks.0.multihead_attn.in_proj_weight" in rest:
        return "cropmae"
    if any(key.startswith("to_posterior.") for key in rest):
        return "rsp"
    if "decoder_embed_mae.weight" in rest and "decoder_blocks.0.cattn.q.weight" in rest:
        return "tobo"
    if not rest or "decoder_blocks.0.attn.qkv.weight" in rest:
        return "mae"
    raise WeightsError(f"{path} has MAE's encoder, but its other weights are of no known family. {_keys(rest)}")


def _encoder(checkpoint: Checkpoint, path: Path, heads: int | None) -> Encoder:
    """Build the encoder and load its weights; WeightsError if they do not fit one."""
    state = checkpoint.encoder
    width, _, patch, _ = state[PATCH_KEY].shape if state[PATCH_KEY].ndim == 4 else (0, 0, 0, 0)
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    if width not in ARCHITECTURES or "pos_embed" not in state:
        known = ", ".join(map(str, ARCHITECTURES))
        raise WeightsError(f"{path} has an encoder of {width} channels; expected one of {known}, with a table pos_embed")
    side = math.isqrt(state["pos_embed"].shape[1] - 1)
    if state["pos_embed"].shape[1] != 1 + side**2:
        raise WeightsError(
            f"{path}: pos_embed is {list(state['pos_embed'].shape)}; expected a square grid of patches and the CLS token"
        )
    if heads is not None and (heads < 1 or width % heads):
        raise WeightsError(f"heads is {heads}; expected a divisor of the {width} channels")
    architecture, usual_depth = ARCHITECTURES[width]
    args: dict[str, Any] = {"patch_size": patch, "img_size": side * patch}
    args |= {"depth": depth} if depth != usual_depth else {}
    args |= {"num_heads": heads} if heads not in (None, width // HEAD_DIM) else {}
    encoder = build_encoder(architecture, args, initial_weights=False)
    expected = {key: tensor.shape for key, tensor in encoder.vit.state_dict().items()}
    wrong = sorted(key for key in expected.keys() | state.keys() if key not in state or expected.get(key) != state[key].shape)
    if wrong:
        raise WeightsError(f"{path} is no {architecture} with patch {patch} and {depth} blocks: {', '.join(wrong[:5])} differ")
    encoder.vit.load_state_dict({key: tensor.float() for key, tensor in state.items()})
    return encoder.eval()


def _has_fixed_positions(rest: Mapping[str, Tensor]) -> bool:
    """Check whether the decoder has the fixed table of positions that siammae's training model has."""
    table = rest.get("decoder_pos_embed")
    if table is None or table.ndim != 3 or table.shape[2] % 4:
        return False
    side = math.isqrt(table.shape[1] - 1)
    fixed = sincos_positions(side, side, table.shape[2])
    return table.shape[1] == 1 + side**2 and torch.allclose(table[0, 1:].float(), fixed, atol=1e-4)


def _tobo_decoder(rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename ToBo's decoder to the keys of siammae's training model: pre-norm, cross-attention, self-attention, MLP."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in rest.items():
        if key.startswith(("mask_token", "decoder_norm.", "decoder_pred.")):
            renamed[key] = tensor
        elif key.startswith("decoder_embed_mae."):
            renamed[key.replace("decoder_embed_mae", "decoder_embed")] = tensor
        elif key.startswith("decoder_blocks."):
            _, number, name = key.split(".", 2)
            renamed |= {f"decoder.layers.{number}.{new}": value for new, value in _tobo_layer(name, tensor)}
    return {key: tensor.float().contiguous() for key, tensor in renamed.items()}


def _tobo_layer(key: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Rename one tensor of a layer; the joint qkv becomes two."""
    module, kind = key.rsplit(".", 1)
    if module == "attn.qkv":
        width = len(tensor) // 3
        return [(f"self.query.{kind}", tensor[:width]), (f"self.key_value.{kind}", tensor[width:])]
    names = {
        "norm1": "norm_query",
        "norm_kv1": "norm_source",
        "norm3": "norm_self",
        "norm4": "norm_mlp",
        "cattn.q": "cross.query",
        "cattn.kv": "cross.key_value",
        "cattn.proj": "cross.proj",
        "attn.proj": "self.proj",
        "mlp2.fc1": "mlp.0",
        "mlp2.fc2": "mlp.2",
    }
    return [(f"{names[module]}.{kind}", tensor)]


def _decoder_config(encoder: Encoder, decoder: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the config of the training model that the decoder fits."""
    width = decoder["decoder_embed.weight"].shape[0]
    return {
        "architecture": encoder.architecture,
        "patch_size": encoder.patch_size,
        "depth": encoder.model_args.get("depth"),
        "image_size": encoder.model_args["img_size"],
        "decoder": "cross-self",
        "decoder_depth": len({key.split(".")[2] for key in decoder if key.startswith("decoder.layers.")}),
        "decoder_width": width,
        "decoder_heads": width // 32,
    }


def _keys(state: Mapping[str, Any]) -> str:
    """List a few keys for a message."""
    return f"Its keys begin with: {', '.join(list(state)[:5]) or 'nothing'}"
