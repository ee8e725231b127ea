"""Write the table of docs/video.md: files of each container are written, damaged and read.

python docs/make_video.py
"""

import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image

from siammae.errors import VideoError
from siammae.video import read_frames

PAGE = Path(__file__).with_name("video.md")
BEGIN, END = "<!-- the table of make_video.py -->\n", "<!-- end of the table -->\n"
FRAMES, HEIGHT, WIDTH = 60, 96, 160
X265 = {"x265-params": "log-level=none:keyint=12:pools=1:frame-threads=1"}
X264 = {"g": "12", "threads": "1", "x264-params": "mbtree=0:weightp=0"}  # with these two each run gives other bytes


@dataclass(frozen=True)
class Container:
    """One row of the table: a container and what is written into it."""

    title: str
    suffix: str
    codec: str
    layout: str = "yuv420p"
    options: dict[str, str] | None = None
    muxer: dict[str, str] = field(default_factory=dict)


CONTAINERS = [
    Container("MP4, index at the end", "mp4", "libx264"),
    Container("MP4, index first", "mp4", "libx264", muxer={"movflags": "faststart"}),
    Container("MP4 in fragments", "mp4", "libx264", muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    Container("MOV, index first", "mov", "libx264", muxer={"movflags": "faststart"}),
    Container("3GP, index first", "3gp", "libx264", muxer={"movflags": "faststart"}),
    Container("Matroska, H.264", "mkv", "libx264"),
    Container("Matroska, HEVC", "mkv", "libx265", options=X265),
    Container("WebM, VP9", "webm", "libvpx-vp9"),
    Container("WebM, VP8", "webm", "libvpx"),
    Container("WebM, live recording", "webm", "libvpx", muxer={"live": "1"}),
    Container("AVI, MPEG-4", "avi", "mpeg4"),
    Container("AVI, H.264", "avi", "libx264"),
    Container("AVI, MJPEG", "avi", "mjpeg", "yuvj420p"),
    Container("MPEG-TS, H.264", "ts", "libx264"),
    Container("MPEG-TS, MPEG-2", "ts", "mpeg2video"),
    Container("MPEG-PS, MPEG-1", "mpg", "mpeg1video"),
    Container("MPEG-PS, MPEG-2", "mpg", "mpeg2video"),
    Container("FLV, H.264", "flv", "libx264"),
    Container("FLV, Sorenson", "flv", "flv"),
    Container("Ogg, VP8", "ogv", "libvpx"),
    Container("GIF", "gif", "gif", "rgb8", {}),
    Container("WebP, animated", "webp", ""),
    Container("APNG", "apng", "apng", "rgb24", {}),
    Container("TIFF stack", "tif", ""),
    Container("YUV4MPEG", "y4m", "wrapped_avframe", "yuv420p", {}),
    Container("raw H.264", "h264", "libx264"),
    Container("raw HEVC", "hevc", "libx265", options=X265),
    Container("ASF, WMV", "asf", "wmv2"),
    Container("NUT, H.264", "nut", "libx264"),
    Container("IVF, VP9", "ivf", "libvpx-vp9"),
    Container("MXF, MPEG-2", "mxf", "mpeg2video"),
]


def pictures() -> Iterator[np.ndarray]:
    """Yield textures that move, [H, W, 3]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grain = np.random.default_rng(0).normal(0, 12, (HEIGHT, WIDTH + FRAMES, 3))
    for t in range(FRAMES):
        waves = np.stack([np.sin((x + 3 * t) / 9), np.cos((y - 2 * t) / 7), np.sin((x + y + t) / 11)], axis=-1)
        yield (127 + 90 * waves + grain[:, t : t + WIDTH]).clip(0, 255).astype(np.uint8)


def write(container: Container, folder: Path) -> Path:
    """Write a whole file."""
    path = folder / f"whole.{container.suffix}"
    if not container.codec:
        pages = [Image.fromarray(picture) for picture in pictures()]
        lossless = {"lossless": True, "method": 0} if container.suffix == "webp" else {}
        pages[0].save(path, save_all=True, append_images=pages[1:], **lossless)
        return path
    with av.open(str(path), "w", options={"fflags": "+bitexact"} | container.muxer) as file:
        usual = X264 if container.codec == "libx264" else {"g": "12", "threads": "1"}
        options = usual if container.options is None else container.options
        stream = file.add_stream(container.codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, container.layout
        for picture in pictures():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    return path


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: round(share * len(data))]


def hole(fill: str, share: float) -> Callable[[bytes], bytes]:
    def make(data: bytes) -> bytes:
        begin, end = round(share * len(data)), round((share + 0.08) * len(data))
        inside = {"zeros": bytes(end - begin), "noise": random.Random(0).randbytes(end - begin), "nothing": b""}[fill]
        return data[:begin] + inside + data[end:]

    return make


DAMAGES: dict[str, list[Callable[[bytes], bytes]]] = {
    "cut off": [cut(share) for share in (0.3, 0.5, 0.7, 0.9)],
    "a hole of zeros": [hole("zeros", share) for share in (0.3, 0.5, 0.7)],
    "a hole of noise": [hole("noise", share) for share in (0.3, 0.5, 0.7)],
    "a part is missing": [hole("nothing", share) for share in (0.3, 0.5, 0.7)],
    "two files joined": [lambda data: data + data],
}


def outcome(path: Path, whole: list[np.ndarray]) -> str:
    """Read a file, and say what came of it."""
    frames: list[np.ndarray] = []
    error = None
    try:
        frames.extend(frame.numpy() for frame in read_frames(path))
    except VideoError as caught:
        error = caught
    right = 0
    for frame, expected in zip(frames, whole + whole, strict=False):
        if not np.array_equal(frame, expected):
            break
        right += 1
    if error is None:
        names = {len(whole): "first one", 2 * len(whole): "both"}
        return names.get(len(frames), "not noticed") if right == len(frames) else "not noticed"
    if not frames and not hasattr(error.__cause__, "packet") and "cannot be read" in str(error):
        return "refused"
    return "error" if right == len(frames) else "late"


def cell(outcomes: list[str]) -> str:
    """Summarize the outcomes of one kind of damage at several places."""
    for worst in ("not noticed", "late", "refused", "error"):
        if worst in outcomes:
            return (
                worst
                if len(set(outcomes)) == 1 or worst in ("refused", "error")
                else f"{worst} ({outcomes.count(worst)} of {len(outcomes)})"
            )
    return outcomes[0]


def row(container: Container, folder: Path) -> str:
    """Make the files of one container, and return its line of the table."""
    path = write(container, folder)
    whole = [frame.numpy() for frame in read_frames(path)]
    data, damaged = path.read_bytes(), path.with_stem("damaged")
    cells = []
    for damages in DAMAGES.values():
        outcomes = []
        for damage in damages:
            damaged.write_bytes(damage(data))
            outcomes.append(outcome(damaged, whole))
        cells.append(cell(outcomes))
    return f"| {container.title} | {' | '.join(cells)} |"


def table() -> str:
    """Return the table of all containers."""
    warnings.simplefilter("ignore")  # of Pillow, about what is damaged
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(container, Path(folder)) for container in CONTAINERS]
    head = f"| container | {' | '.join(DAMAGES)} |"
    return "\n".join([head, "|---" * (len(DAMAGES) + 1) + "|", *rows]) + "\n"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2])
