"""Label a stream frame by frame, in flat memory, until Ctrl-C.

python examples/camera.py                                  # a rendered clip that runs forwards and backwards, without end
python examples/camera.py /dev/video0 --format v4l2 --box 220 140 420 340
python examples/camera.py street.mp4 --box 40 90 180 160   # or rtsp://..., or anything else that PyAV opens
"""

import argparse
import itertools
import signal
import time
from pathlib import Path
from threading import Event

import av
import numpy as np

import siammae
from siammae.synthetic import render_clip
from siammae.video import write_video
from siammae.visualize import overlay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("source", nargs="?", help="device, address or file; default: a rendered clip")
parser.add_argument("--format", help="format of a device: v4l2 (Linux), avfoundation (macOS), dshow (Windows)")
parser.add_argument("--box", type=int, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), default=(70, 65, 170, 160),
                    help="box around the object in the first frame, in pixels")  # fmt: skip
parser.add_argument("-o", "--out", type=Path, default=Path("out/camera.mp4"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, default=128, help="shorter side in pixels at which frames are encoded; less is faster")
args = parser.parse_args()


def camera():
    """Yield frames [H, W, 3]."""
    if args.source is None:
        clip = render_clip(24).frames
        yield from itertools.cycle([*clip, *clip[-2:0:-1]])
    with av.open(args.source, format=args.format) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def labelled(frames):
    """Yield each frame after the first, with the object drawn over it."""
    frame0, (x0, y0, x1, y1) = next(frames), args.box
    mask0 = np.zeros(frame0.shape[:2], dtype=np.uint8)
    mask0[y0:y1, x0:x1] = 1
    propagator, start = siammae.LabelPropagator(frame0, mask0, args.model, size=args.size), time.monotonic()
    for count, frame in enumerate(frames, 1):
        yield overlay(frame, propagator.step(frame))
        if count % 20 == 0:
            print(f"{count} frames, {count / (time.monotonic() - start):.1f} a second", flush=True)


stopped = Event()
signal.signal(signal.SIGINT, lambda *_: stopped.set())
args.out.parent.mkdir(parents=True, exist_ok=True)
write_video(args.out, labelled(itertools.takewhile(lambda _: not stopped.is_set(), camera())), fps=24)
print(f"wrote {args.out}")
