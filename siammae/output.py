"""Results as files, each written whole under another name and then renamed: half a file is never left behind."""

import csv
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from siammae.labels import to_image
from siammae.tensors import save_tensors

PathLike = str | os.PathLike[str]

MAX_COORDINATE = 1e9  # of points, pixels


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix; renamed to `path` when the block ends well, removed when it does not."""
    target = Path(path)
    draft = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield draft
        draft.replace(target)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(draft):  # what people know is the target
            raise OSError(error.errno, f"{target} cannot be written: {error.strerror or error}") from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(folder: PathLike) -> None:
    """Remove what `atomic` left in a folder when its process was killed: drafts that nobody has touched for a minute."""
    for draft in Path(folder).glob(".*.part.*"):
        if time.time() - draft.stat().st_mtime > 60:
            draft.unlink(missing_ok=True)


def write_mask(path: PathLike, ids: NDArray[Any], palette: Sequence[int] | None = None) -> None:
    """Ids [H, W] as an indexed PNG with `palette` (DAVIS's if None); see `siammae.labels.to_image`."""
    image = to_image(ids, palette)
    with atomic(path) as draft:
        image.save(draft, format="PNG")


def write_picture(path: PathLike, picture: NDArray[np.uint8]) -> None:
    """A picture [H, W, 3], RGB, in the format that the suffix names."""
    with atomic(path) as draft:
        Image.fromarray(picture).save(draft)


def write_keypoints(path: PathLike, points: NDArray[Any], scores: NDArray[Any], frames: Iterable[int] | None = None) -> None:
    """Points [T, K, 2] and scores [T, K] as a CSV with the columns frame, point, x, y, score; a lost point has no x and y.

    `frames` numbers the T frames; None counts from 0.
    """
    numbers = range(len(points)) if frames is None else frames
    with atomic(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "point", "x", "y", "score"])
        for frame, positions, confidences in zip(numbers, points, scores, strict=True):
            for point, ((x, y), score) in enumerate(zip(positions, confidences, strict=True)):
                place = ["", ""] if np.isnan(x) else [f"{x:.3f}", f"{y:.3f}"]
                writer.writerow([frame, point, *place, f"{score:.4f}"])


def read_keypoints(path: PathLike) -> NDArray[np.float32]:
    """Points [K, 2] of one frame from a CSV with the columns x and y, one row a point; empty for one that cannot be seen."""
    label = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{label} is no CSV table: {error}") from error
    if not rows or not {"x", "y"} <= rows[0].keys():
        raise ValueError(f"{label} has no rows with the columns x and y")
    if len({row.get("frame") for row in rows}) > 1:
        raise ValueError(f"{label} holds the points of several frames; keep the rows of one")
    try:
        points = np.array([[float(row[axis] or "nan") for axis in ("x", "y")] for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label}: x and y must be numbers ({error})") from error
    if np.any(np.abs(points) > MAX_COORDINATE):
        raise ValueError(f"{label}: x and y must be pixels of the frame, below {MAX_COORDINATE:g}; leave hidden points empty")
    return points.astype(np.float32)


def write_features(path: PathLike, features: torch.Tensor) -> None:
    """Features [T, D, h, w] as .safetensors (under the name "features") or .npy, by the suffix."""
    writers: dict[str, Callable[[Path], None]] = {
        ".safetensors": lambda draft: save_tensors(draft, {"features": features.contiguous()}),
        ".npy": lambda draft: np.save(draft, features.numpy()),
    }
    with atomic(path) as draft:
        writers[check_output(path, writers)](draft)


def check_output(path: PathLike, suffixes: Iterable[str]) -> str:
    """The suffix of a file to be written, before any work is done for it.

    ValueError lists `suffixes` where it is none of them; FileNotFoundError where its folder does not exist.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{os.fspath(path)} ends in {suffix or 'no suffix'}; expected one of {', '.join(sorted(suffixes))}")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)} cannot be written: there is no folder {Path(path).parent}")
    return suffix


def write_video(path: PathLike, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Pictures [H, W, 3], uint8 RGB, all of one size, as .mp4 (H.264) or .gif, by the suffix. Written as they come."""
    import av

    is_gif = check_output(path, (".mp4", ".gif")) == ".gif"
    with atomic(path) as draft, av.open(str(draft), "w", format="gif" if is_gif else "mp4") as container:
        encode, size = None, None
        for picture in frames:
            if encode is None:
                size = picture.shape
                rate = Fraction(fps).limit_denominator(1001)
                encode = _gif_encoder(container, picture, rate) if is_gif else _mp4_encoder(container, picture, rate)
            if picture.shape != size:
                raise ValueError(f"{os.fspath(path)}: a picture is {picture.shape}, those before it are {size}")
            encode(picture)
        if encode is None:
            raise ValueError(f"no frames to write to {os.fspath(path)}")
        encode(None)


def _mp4_encoder(container: Any, picture: NDArray[np.uint8], rate: Fraction) -> Callable[[NDArray[np.uint8] | None], None]:
    import av

    height, width = (side + side % 2 for side in picture.shape[:2])  # H.264 wants even sides
    stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"

    def encode(picture: NDArray[np.uint8] | None) -> None:
        frame = None
        if picture is not None:
            padding = [(0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)]
            frame = av.VideoFrame.from_ndarray(np.pad(picture, padding, mode="edge"), format="rgb24")
        container.mux(stream.encode(frame))

    return encode


def _gif_encoder(container: Any, picture: NDArray[np.uint8], rate: Fraction) -> Callable[[NDArray[np.uint8] | None], None]:
    """Each picture gets the palette of 256 colours that suits it best."""
    import av

    height, width = picture.shape[:2]
    stream = container.add_stream("gif", rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    apply = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(apply, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    count = 0

    def drain() -> None:
        while True:
            try:
                container.mux(stream.encode(graph.pull()))
            except (av.BlockingIOError, av.EOFError):
                return

    def encode(picture: NDArray[np.uint8] | None) -> None:
        nonlocal count
        if picture is None:
            graph.push(None)
            drain()
            container.mux(stream.encode(None))
            return
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = count, 1 / rate
        count += 1
        graph.push(frame)
        drain()

    return encode
