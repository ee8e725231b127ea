"""Make the pictures of docs/gallery.md and the README from a rendered clip.

python examples/gallery.py docs/images
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from siammae import extract_features, load_model, propagate_keypoints, propagate_labels, visualize
from siammae.models.registry import WEIGHTS_FOLDER
from siammae.synthetic import render_clip
from siammae.training import load_siammae
from siammae.training.pictures import reconstruct_future
from siammae.video import write_picture, write_video

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("out", type=Path, help="folder for the pictures")
parser.add_argument("--model", default="vits8", help="registered name or model folder")
parser.add_argument("--frames", type=int, default=48, help="length of the clip")
args = parser.parse_args()
model, clip = load_model(args.model), render_clip(args.frames)
frames, size, half = clip.frames, clip.frames.shape[1:3], args.frames // 2
masks = propagate_labels(frames, clip.masks[0], model)
tracks, _ = propagate_keypoints(frames, clip.points[0], model)
shown = np.linspace(0, half, 4).round().astype(int)

features = extract_features(frames[shown], model)
colors = visualize.FeatureColors(features)
heads = [visualize.draw_heat(frames[half], heat) for heat in visualize.attention_maps(frames[half], model)]
point = clip.points[0, 1:2]
matched = [visualize.draw_keypoints(frames[0], point)]
for i in shown[1:]:
    matches, similarities = visualize.correspondence(frames[0], point, frames[i], model)
    matched.append(visualize.draw_keypoints(visualize.draw_heat(frames[i], similarities[0]), matches))
sheets = {
    "overlay": visualize.overlay(frames[half // 2], masks[half // 2], numbers=True),
    "teaser": visualize.before_after(frames[: half + 1], masks[: half + 1]),
    "trails": visualize.draw_trails(frames[half], tracks[: half + 1]),
    "pca": visualize.contact_sheet([*frames[shown], *colors(features, size)], columns=4),
    "attention": visualize.contact_sheet([frames[half], *heads], columns=4),
    "correspondence": visualize.contact_sheet(matched, columns=4),
}
painter = load_siammae(WEIGHTS_FOLDER / "vitt8d6")  # its decoder predicts pixels
pictures = reconstruct_future(painter, frames[0], frames[half]).repeat(2, axis=1).repeat(2, axis=2)
sheets["reconstruction"] = visualize.contact_sheet(pictures, columns=4)

args.out.mkdir(parents=True, exist_ok=True)
for name, sheet in sheets.items():
    image = Image.fromarray(sheet)
    image.thumbnail((1296, 1296))  # pixels
    write_picture(args.out / f"{name}.jpg", np.array(image))
film = (visualize.overlay(frames[i], masks[i], numbers=True) for i in range(0, args.frames, 2))
small = (np.array(Image.fromarray(picture).resize((256, 142))) for picture in film)
write_video(args.out / "teaser.gif", small, clip.fps / 2)
