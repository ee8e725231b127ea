"""Correct a frame on the way, and measure the gain.

python examples/correction.py
python examples/correction.py --at 20 --model timm:vit_small_patch16_224.dino
"""

import argparse
from pathlib import Path

import numpy as np

import siammae
from siammae.evaluation.metrics import region_similarity
from siammae.synthetic import render_clip
from siammae.video import write_picture
from siammae.visualize import contact_sheet, overlay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--at", type=int, default=24, help="number of the frame to correct")
parser.add_argument("--frames", type=int, default=36, help="length of the rendered clip")
parser.add_argument("-o", "--out", type=Path, default=Path("out/correction.png"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
args = parser.parse_args()

clip = render_clip(args.frames)
propagator = siammae.LabelPropagator(clip.frames[0], clip.masks[0], args.model, size=args.size)
start = args.at + 1
for frame in clip.frames[1:start]:
    propagator.step(frame)

state = propagator.state_dict()  # continue twice from here: without and with the correction
before = [propagator.step(frame) for frame in clip.frames[start:]]
propagator.load_state_dict(state)
propagator.add(clip.frames[args.at], clip.masks[args.at])
after = [propagator.step(frame) for frame in clip.frames[start:]]


def score(masks):
    """Return the mean J of both animals after the corrected frame."""
    pairs = zip(clip.masks[start:], masks, strict=True)
    return np.mean([region_similarity(truth == animal, mask == animal) for truth, mask in pairs for animal in (1, 2)])


print(f"J of frames {start} to {args.frames - 1}: {score(before):.3f} without the correction, {score(after):.3f} with it")
shown = np.linspace(0, len(before) - 1, 3).round().astype(int)
pictures = [overlay(clip.frames[start + i], masks[i]) for masks in (before, after, clip.masks[start:]) for i in shown]
args.out.parent.mkdir(parents=True, exist_ok=True)
write_picture(args.out, contact_sheet(pictures, columns=3))
print(f"{args.out}: first without, then with the correction; last the true masks")
