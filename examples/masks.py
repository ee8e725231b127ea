"""Propagate a mask through a video: write a PNG for every frame, and a video with the masks drawn over it.

python examples/masks.py                                   # a rendered clip
python examples/masks.py horse.mp4 horse.png -o horse-masks
"""

import argparse
from pathlib import Path

import siammae
from siammae.labels import write_mask
from siammae.synthetic import render_clip
from siammae.video import write_video
from siammae.visualize import overlay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video", nargs="?", help="video file, folder of images or glob; default: a rendered clip")
parser.add_argument("mask", nargs="?", help="PNG with the ids of the objects in the first frame; 0 is the background")
parser.add_argument("-o", "--out", type=Path, default=Path("out/masks"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
args = parser.parse_args()
if args.video and not args.mask:
    parser.error("a video needs the mask of its first frame")

frames = siammae.read_frames(args.video or render_clip(24).frames)
masks = siammae.propagate_labels(frames, args.mask or render_clip(1).masks[0], args.model, size=args.size)  # [T, H, W]

args.out.mkdir(parents=True, exist_ok=True)
for index, mask in enumerate(masks):
    write_mask(args.out / f"{frames.name(index)}.png", mask)
pictures = (overlay(frame, mask) for frame, mask in zip(frames, masks, strict=True))
write_video(args.out / "overlay.mp4", pictures, frames.fps or 24)
print(f"{len(masks)} masks and overlay.mp4 in {args.out}")
