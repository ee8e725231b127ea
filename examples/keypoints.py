"""Follow points through a video: write a CSV table, and a video with the points drawn over it.

python examples/keypoints.py                               # a rendered clip
python examples/keypoints.py dog.mp4 --point 310 142 --point 388 97 -o dog-points
"""

import argparse
from pathlib import Path

import numpy as np

import siammae
from siammae.labels import write_tracks
from siammae.synthetic import render_clip
from siammae.video import write_video
from siammae.visualize import draw_keypoints

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video", nargs="?", help="video file, folder of images or glob; default: a rendered clip")
parser.add_argument(
    "--point", nargs=2, type=float, action="append", metavar=("X", "Y"), help="point in pixels of the first frame; repeatable"
)
parser.add_argument("-o", "--out", type=Path, default=Path("out/keypoints"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
args = parser.parse_args()
if args.video and not args.point:
    parser.error("a video needs points in its first frame: --point X Y")

frames = siammae.read_frames(args.video or render_clip(24).frames)
points0 = args.point or render_clip(1).points[0]
points, scores = siammae.propagate_keypoints(frames, points0, args.model, size=args.size)  # [T, K, 2], [T, K]

args.out.mkdir(parents=True, exist_ok=True)
write_tracks(args.out / "points.csv", points, scores)
pictures = (draw_keypoints(frame, now, radius=5) for frame, now in zip(frames, points, strict=True))
write_video(args.out / "points.mp4", pictures, frames.fps or 24)
lost = np.isnan(points[-1, :, 0]).sum()
print(f"{len(points)} frames of {len(points0)} points in {args.out}; {lost} points are lost at the end")
