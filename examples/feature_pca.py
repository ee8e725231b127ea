"""Draw features as colours: their first three principal components as red, green and blue.

python examples/feature_pca.py                             # a rendered clip
python examples/feature_pca.py street.mp4 -o street-pca.png --model timm:vit_small_patch16_dinov3.lvd1689m
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional as F

import siammae
from siammae.synthetic import render_clip
from siammae.video import write_picture
from siammae.visualize import contact_sheet

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video", nargs="?", help="video file, folder of images or glob; default: a rendered clip")
parser.add_argument("-o", "--out", type=Path, default=Path("out/feature_pca.png"))
parser.add_argument("--every", type=int, default=10, help="number of frames from one drawn frame to the next")
parser.add_argument("--count", type=int, default=4, help="number of frames in the picture")
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
args = parser.parse_args()

source = siammae.read_frames(args.video or render_clip(1 + args.every * (args.count - 1)).frames)
frames = list(islice(source, 0, args.every * args.count, args.every))
model = siammae.load_model(args.model)
features = siammae.extract_features(frames, model, size=args.size)  # [T, D, h, w]
blank = torch.full_like(frames[0], 120)  # its features encode only position; subtract them
features = F.normalize(features - siammae.extract_features([blank], model, size=args.size), dim=1)

tokens = features.permute(0, 2, 3, 1)  # [T, h, w, D]
flat = tokens.flatten(0, 2)  # all frames together, so that colours mean the same in each
torch.manual_seed(0)  # pca_lowrank draws random numbers
_, _, components = torch.pca_lowrank(flat, q=6)
colors = (tokens - flat.mean(dim=0)) @ components[:, :3]
low, high = (colors.flatten(0, 2).quantile(share, dim=0) for share in (0.01, 0.99))
colors = ((colors - low) / (high - low)).clamp(0, 1).permute(0, 3, 1, 2)  # [T, 3, h, w]
colors = F.interpolate(colors, size=frames[0].shape[1:], mode="bicubic").clamp(0, 1)

pictures = [*frames, *(colors * 255).byte()]
args.out.parent.mkdir(parents=True, exist_ok=True)
write_picture(args.out, contact_sheet(pictures, columns=len(frames)))
print(f"features {list(features.shape)}; {args.out} has {len(frames)} frames above their features")
