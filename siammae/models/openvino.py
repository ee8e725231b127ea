"""OpenVINO as the runtime of an encoder's blocks on the CPU: converted once, compiled for each number of tokens.

The patch projection and the positions stay with torch, in float32. So one converted model serves every input size, and what a
pixel's rounding would cost is not lost. Letters: B images, N tokens of an image, D channels.
"""

import copy
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import warnings
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siammae.encoder import Encoder

SIZES_IN_MEMORY = 4  # compiled models that are kept; the oldest gives way
INSTALL = 'pip install "siammae[fast]"'


def unavailable(encoder: Encoder) -> str | None:
    """Return why OpenVINO cannot compute this encoder's blocks, or None if it can."""
    if find_spec("openvino") is None:
        return f"it is not installed: {INSTALL}"
    if encoder.device.type != "cpu":
        return f"it computes on the CPU, and the encoder is on {encoder.device}"
    if encoder.dtype != torch.float32:
        return f"it takes float32 weights, and the encoder's are {encoder.dtype}; leave dtype out"
    return None


def is_faster() -> bool:
    """Tell if OpenVINO is expected to be faster than torch: on x86-64, where it was in every measurement."""
    return platform.machine().lower() in ("x86_64", "amd64")


class _Blocks(nn.Module):
    """The blocks and the final LayerNorm: tokens [B, N, D] to tokens [B, N, D]."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.blocks, self.norm = vit.blocks, vit.norm

    def forward(self, tokens: Tensor) -> Tensor:
        encoded: Tensor = self.norm(self.blocks(tokens))
        return encoded


class OpenVino:
    """The blocks of one encoder in OpenVINO.

    Products are in bfloat16 where the encoder's are (`Encoder.multiplies`). The converted model is kept as a file, under the
    digest of the weights and the versions, so that later processes need not convert it; a compiled one is kept in memory.

    Args:
        cache_dir: folder for converted models; None is `$SIAMMAE_CACHE`, else `~/.cache/siammae`.
    """

    name = "openvino"

    def __init__(self, cache_dir: str | os.PathLike[str] | None = None) -> None:
        self.cache_dir = cache_dir
        self._lock = threading.RLock()
        self._model: Any = None
        self._weights: list[tuple[int, int]] = []
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def __reduce__(self) -> tuple[type["OpenVino"], tuple[Any]]:
        return OpenVino, (self.cache_dir,)  # a copy in another process, or of another encoder, starts with nothing compiled

    def prepare(self, encoder: Encoder) -> None:
        """Convert the encoder, or read the converted one; ValueError if it cannot be converted."""
        with self._lock:
            self._compiled.clear()
            self._weights = _versions(encoder)
            self._model = _read_or_convert(encoder, self._folder())

    @torch.no_grad()
    def __call__(self, encoder: Encoder, tokens: Tensor) -> Tensor:
        """Run tokens [B, N, D], float32, through the encoder's blocks and final LayerNorm: [B, N, D], float32."""
        import openvino

        with self._lock:
            if self._model is None or self._weights != _versions(encoder):
                self.prepare(encoder)
            key = (tuple(tokens.shape), encoder.multiplies, torch.get_num_threads())
            if key not in self._compiled:
                model = self._model.clone()
                model.reshape(list(tokens.shape))
                options = {
                    "INFERENCE_PRECISION_HINT": "bf16" if encoder.multiplies == torch.bfloat16 else "f32",
                    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    "PERFORMANCE_HINT": "LATENCY",
                }
                while len(self._compiled) >= SIZES_IN_MEMORY:
                    self._compiled.pop(next(iter(self._compiled)))
                self._compiled[key] = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
            found = self._compiled[key].infer([tokens.contiguous().numpy()], share_inputs=True)
            return torch.from_numpy(found[0])

    def _folder(self) -> Path:
        given = self.cache_dir or os.environ.get("SIAMMAE_CACHE")
        return Path(given) if given else Path.home() / ".cache" / "siammae"


def _versions(encoder: Encoder) -> list[tuple[int, int]]:
    """Return what changes when a weight of the encoder does."""
    return [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in encoder.vit.parameters()]


def _read_or_convert(encoder: Encoder, cache: Path) -> Any:
    """Return the encoder's blocks as an OpenVINO model for any B and N, from the cache if it is there."""
    import openvino

    versions = [f"{name} {metadata.version(name)}" for name in ("openvino", "timm", "torch")]
    key = hashlib.sha256("\n".join([encoder.digest(), encoder.architecture, repr(encoder.model_args), *versions]).encode())
    folder = cache / "openvino" / key.hexdigest()[:32]
    if (folder / "blocks.xml").is_file():
        try:
            return openvino.Core().read_model(folder / "blocks.xml")
        except RuntimeError:  # damaged: made again
            shutil.rmtree(folder, ignore_errors=True)
    model = _convert(encoder)
    try:
        _keep(model, folder)
    except OSError as error:
        warnings.warn(f"the model for OpenVINO is not kept, and will be converted again: {error}", stacklevel=2)
    return model


def _keep(model: Any, folder: Path) -> None:
    """Write a model into a folder that appears whole; another process may have been faster."""
    import openvino

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part.", dir=folder.parent))
    try:
        openvino.save_model(model, draft / "blocks.xml", compress_to_fp16=False)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    except RuntimeError as error:
        raise OSError(f"{folder} cannot be written: {str(error).splitlines()[0]}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _convert(encoder: Encoder) -> Any:
    import openvino

    blocks = _Blocks(copy.deepcopy(encoder.vit)).eval()
    tokens = torch.rand(2, 5 + encoder.vit.num_prefix_tokens, encoder.embed_dim, dtype=torch.float32, device="cpu")
    try:
        with warnings.catch_warnings(), torch.device("cpu"), torch.no_grad():
            warnings.simplefilter("ignore")
            shape = openvino.PartialShape([-1, -1, encoder.embed_dim])
            model = openvino.convert_model(blocks, example_input=tokens, input=[shape])
            expected = blocks(tokens[:1].repeat(1, 2, 1))
            compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            found = torch.from_numpy(compiled(tokens[:1].repeat(1, 2, 1).numpy())[0])
    except Exception as error:
        raise ValueError(f"{encoder.name} cannot run in OpenVINO: {str(error).splitlines()[0]}; runtime='torch' can") from error
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= 1e-3:
        raise ValueError(
            f"{encoder.name} cannot run in OpenVINO: features differ by {difference:.2g} of the largest; runtime='torch' can"
        )
    return model
