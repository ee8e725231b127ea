"""Export the encoder to ONNX, run it in onnxruntime, and compare with torch.

python examples/export_onnx.py
python examples/export_onnx.py --model timm:vit_small_patch16_224.dino --input 480 848 -o dino.onnx
"""

import argparse
import time
from pathlib import Path

import onnxruntime
import torch

import siammae
from siammae.features import preprocess
from siammae.models.runtimes import export_encoder
from siammae.synthetic import render_clip

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--out", type=Path, default=Path("out/encoder.onnx"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--input", type=int, nargs=2, metavar=("H", "W"), default=(240, 432), help="size of images, whole patches")
args = parser.parse_args()

model = siammae.load_model(args.model, device="cpu")
args.out.parent.mkdir(parents=True, exist_ok=True)
export_encoder(model, args.out, size=tuple(args.input))

frame = torch.from_numpy(render_clip(1).frames).permute(0, 3, 1, 2)  # [1, 3, H, W], uint8
images = preprocess(frame, model, tuple(args.input))  # resized and normalised, as the exported file expects
session = onnxruntime.InferenceSession(args.out, providers=["CPUExecutionProvider"])


def run_torch():
    with torch.inference_mode():
        return model(images)  # [1, D, h, w]


def run_onnx():
    return torch.from_numpy(session.run(["features"], {"images": images.numpy()})[0])


for name, run in (("torch", run_torch), ("onnxruntime", run_onnx)):
    run()
    start = time.perf_counter()
    run()
    print(f"{name}: {1000 * (time.perf_counter() - start):.0f} ms a frame")
cosine = torch.cosine_similarity(run_torch(), run_onnx(), dim=1)
print(f"{args.out}: features {list(cosine.shape[1:])} cells, least cosine similarity to torch's {cosine.min():.6f}")
