"""Films for tests: pictures that differ in every frame, encoded with any codec, and changes to their files."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

HEIGHT, WIDTH = 48, 80
UNITY = 1 << 16


def picture(index: int, height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Smooth waves that move with `index`: [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 3 * index) / 9), np.cos((y - 2 * index) / 7), np.sin((x + y + index) / 11)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def write(
    path: Path,
    pictures: list[Picture],
    codec: str = "libx264",
    *,
    times: list[int] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Encode pictures at 25 frames per second, or at `times` in hundredths of a second."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = {"gif": "rgb8", "libx264": "yuv444p"}.get(codec, "yuv420p")
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for index, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def index_first(path: Path, count: int = 50, codec: str = "libx264") -> Path:
    """An MP4 whose index stands before its pictures."""
    options = {"preset": "veryfast"} if codec == "libx264" else {"x265-params": "log-level=none"}
    return write(path, [picture(i) for i in range(count)], codec, options=options, container={"movflags": "faststart"})


def packets(path: Path) -> list[tuple[int, int]]:
    """Place and size in the file of each packet, in decoding order."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def distance(one: Any, other: Any) -> float:
    """Mean difference of two pictures, in grey levels."""
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def with_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a, b, c, d of the display matrix into the track header of an MP4 file."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    assert struct.unpack(">9i", data[start : start + 36]) == (UNITY, 0, 0, 0, UNITY, 0, 0, 0, 1 << 30)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = path.with_stem("turned")
    turned.write_bytes(data)
    return turned
