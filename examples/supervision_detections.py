"""Turn masks into `supervision.Detections`, and draw them with its annotators.

python examples/supervision_detections.py                  # a rendered clip
python examples/supervision_detections.py horse.mp4 horse.png -o horse.mp4
"""

import argparse
from pathlib import Path

import numpy as np
import supervision as sv

import siammae
from siammae.synthetic import render_clip
from siammae.video import as_picture, write_video

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video", nargs="?", help="video file, folder of images or glob; default: a rendered clip")
parser.add_argument("mask", nargs="?", help="PNG with the ids of the objects in the first frame; 0 is the background")
parser.add_argument("-o", "--out", type=Path, default=Path("out/supervision.mp4"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
args = parser.parse_args()
if args.video and not args.mask:
    parser.error("a video needs the mask of its first frame")


annotators = [cls(color_lookup=sv.ColorLookup.TRACK) for cls in (sv.MaskAnnotator, sv.BoxAnnotator)]
captions = sv.LabelAnnotator(color_lookup=sv.ColorLookup.TRACK)


def annotated(frame, objects):
    picture = np.ascontiguousarray(as_picture(frame)[..., ::-1])  # supervision draws in BGR, as OpenCV does
    for annotator in annotators:
        picture = annotator.annotate(picture, objects)
    names = [f"#{i}: {area:.0f} px" for i, area in zip(objects.tracker_id, objects.area, strict=True)]
    return captions.annotate(picture, objects, names)[..., ::-1]


frames = siammae.read_frames(args.video or render_clip(24).frames)
masks = siammae.propagate_labels(frames, args.mask or render_clip(1).masks[0], args.model, size=args.size)
args.out.parent.mkdir(parents=True, exist_ok=True)
objects = (siammae.output.to_detections(mask, names="object") for mask in masks)
pictures = (annotated(frame, detections) for frame, detections in zip(frames, objects, strict=True))
write_video(args.out, pictures, frames.fps or 24)
print(f"{len(masks)} frames in {args.out}")
