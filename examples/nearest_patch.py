"""Match the patches of two pictures: lines join those that are each other's most similar patch.

python examples/nearest_patch.py                           # two frames of a rendered clip
python examples/nearest_patch.py cat.jpg tiger.jpg -o cats.png --model timm:vit_small_patch14_dinov2.lvd142m
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

import siammae
from siammae.synthetic import render_clip
from siammae.video import write_picture
from siammae.visualize import correspondence

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="two pictures; default: frames of a rendered clip")
parser.add_argument("-o", "--out", type=Path, default=Path("out/nearest_patch.png"))
parser.add_argument("--every", type=int, default=4, help="number of patches from one match to the next, along both sides")
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which pictures are encoded")
args = parser.parse_args()
if len(args.pictures) not in (0, 2):
    parser.error(f"{len(args.pictures)} pictures; expected two")

pictures = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in args.pictures]
one, two = pictures or [Image.fromarray(frame) for frame in render_clip(7).frames[::6]]
model = siammae.load_model(args.model)
geometry = siammae.Geometry.of((one.height, one.width), model, args.size)
rows, columns = geometry.grid
cells = [(x, y) for y in range(args.every // 2, rows, args.every) for x in range(args.every // 2, columns, args.every)]
points = geometry.to_frame(torch.tensor(cells)).numpy()  # the middle of each patch, [K, 2]
matches, _ = correspondence(one, points, two, model, size=args.size)  # [K, 2]
back, _ = correspondence(two, matches, one, model, size=args.size)
mutual = np.isclose(back, points).all(axis=1)

sheet = Image.new("RGB", (max(one.width, two.width), one.height + two.height))
sheet.paste(one, (0, 0))
sheet.paste(two, (0, one.height))
draw = ImageDraw.Draw(sheet)
for (x0, y0), (x1, y1) in zip(points[mutual], matches[mutual] + (0, one.height), strict=True):
    color = tuple(int(255 * level) for level in colorsys.hsv_to_rgb(x0 / one.width, 1 - y0 / one.height / 2, 1))
    draw.line((x0, y0, x1, y1), fill=color)
    for x, y in ((x0, y0), (x1, y1)):
        draw.circle((x, y), 4, fill=color, outline="black")
args.out.parent.mkdir(parents=True, exist_ok=True)
write_picture(args.out, np.asarray(sheet))
print(f"{mutual.sum()} of {len(points)} patches and their matches choose each other; the picture is {args.out}")
