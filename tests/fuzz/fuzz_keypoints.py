"""Mutated tables of keypoints, read as the points of one frame and as tracks."""

import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from harness import fuzz

from siammae.labels import read_named_points, read_tracks

TABLES = {
    "plain.csv": "x,y\n1.5,2\n3,\n",
    "named.csv": "frame,point,name,x,y,score\n0,0,nose,1.5,2,1.0\n0,1,tail,,,0.0\n1,0,nose,2.5,2,0.9\n1,1,tail,3,4,0.8\n",
    "semicolons.csv": "sep=;\nKeypoint;X;Y\nnose;1,5;2,25\n",
    "spaces.csv": "x y\n1 2\n3 4\n",
    "deeplabcut.csv": "scorer,a,a,a,a\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\nlabeled/img0001.png,1,2,3,4\n7,1,2,,\n",
    "several.csv": "scorer,a,a,a\nindividuals,one,one,one\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n0,1,2,0.5\n",
}
WORDS = [",", ";", "\t", '"', "\n", "\r", "nan", "inf", "-1e400", "1_0", "\u0663", "x", "frame", "coords", "scorer", "9" * 400]


def change(content: bytes, rng: random.Random) -> bytes:
    """Replace, insert or drop words of a table, at places where words begin or end as often as not."""
    text = content.decode(errors="replace")
    place = rng.randrange(len(text) + 1)
    return (text[:place] + rng.choice(WORDS) + text[place + rng.randrange(4) :]).encode()


def read(path: Path) -> None:
    for frame in (None, 0, 1):
        try:
            points, names = read_named_points(path, frame)
        except ValueError:
            continue
        if points.ndim != 2 or points.shape[1] != 2 or points.dtype != np.float32 or np.isinf(points).any():
            raise RuntimeError(f"points are {points.dtype} {points.shape}")
        if names is not None and len(names) != len(points):
            raise RuntimeError(f"{len(names)} names of {len(points)} points")
    read_tracks(path, 2, 2)
    read_named_points(path)


fuzz(read, {name: text.encode() for name, text in TABLES.items()}, (".csv",), change)
