"""Mutated video files, of which a few frames are read in order, by number, backwards or by time.

Set CLIPS to a folder of real clips for more seeds.
"""

import os
import sys
import tempfile
from itertools import islice
from pathlib import Path
from zlib import crc32

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from harness import fuzz

from siammae.training.data.clips import VideoClip
from siammae.video import read_frames

CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9", ".gif": "gif", ".mkv": "libx265", ".avi": "mjpeg"}


def seeds() -> dict[str, bytes]:
    found, pixels = {}, np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    for suffix, codec in CODECS.items():
        path = Path(tempfile.mkdtemp()) / f"clip{suffix}"
        with av.open(str(path), "w") as file:
            stream = file.add_stream(codec, rate=25, options={"x265-params": "log-level=none"} if codec == "libx265" else {})
            stream.height, stream.width = 48, 64
            stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            for shift in range(4):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(pixels, shift, 1), format="rgb24")))
            file.mux(stream.encode(None))
        found[path.name] = path.read_bytes()
    for path in Path(os.environ.get("CLIPS", os.devnull)).glob("*.mp4"):
        found[path.name] = path.read_bytes()
    return found


Image.MAX_IMAGE_PIXELS = 4096 * 2304  # a decoder may hold a dozen frames: at the usual limit, gigabytes that are no mistake


def read(path: Path) -> None:
    way = crc32(path.read_bytes()) % 4
    if way == 0:
        for _ in islice(read_frames(path), 8):
            pass
    elif way == 1:
        read_frames(path).at([3, 1])
    elif way == 2:
        list(read_frames(path).backwards(3))
    else:
        with VideoClip(path) as clip:
            clip.read([0.0, 0.1])


fuzz(read, seeds(), tuple(CODECS))
