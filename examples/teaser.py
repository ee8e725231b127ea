"""The picture of the README: frames of the rendered clip above the masks propagated from the first one.

python examples/teaser.py docs/images/teaser.jpg
"""

import argparse

import numpy as np
from PIL import Image

from siammae import load_model, propagate_labels
from siammae.synthetic import render_clip
from siammae.visualize import overlay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("out")
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--frames", type=int, default=24)
args = parser.parse_args()

clip = render_clip(args.frames)
model = load_model(args.model)
masks = propagate_labels(clip.frames, clip.masks[0], model)
shown = np.linspace(0, args.frames - 1, 4).round().astype(int)
rows = [[clip.frames[i] for i in shown], [overlay(clip.frames[i], masks[i]) for i in shown]]
gap = np.full((clip.frames.shape[1], 6, 3), 255, dtype=np.uint8)
strips = [np.concatenate([part for picture in row for part in (picture, gap)][:-1], axis=1) for row in rows]
Image.fromarray(np.concatenate([strips[0], np.full((6, strips[0].shape[1], 3), 255, dtype=np.uint8), strips[1]])).save(
    args.out, quality=88
)
