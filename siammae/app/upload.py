"""Checks of an uploaded file: one video within limits, which refers to no other files."""

import stat
from pathlib import Path

from siammae.video.container import best_stream, open_video

MAX_FRAMES = 3000
MAX_PIXELS = 4096 * 2304
MAX_BYTES = 1 << 30
MAX_ASPECT, MIN_SIDE = 8, 16
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
FORMATS = "mov,matroska,avi,gif"  # names of FFmpeg; none of these formats plays other files, as a playlist does


def check_file(path: Path) -> str:
    """Return the suffix of an uploaded file; ValueError unless it is a plain file of a known kind, within the limit."""
    suffix, info = path.suffix.lower(), path.lstat()
    if suffix not in SUFFIXES or not stat.S_ISREG(info.st_mode):
        raise ValueError(f"this is no video file of a known kind; expected one of {', '.join(SUFFIXES)}")
    if info.st_size > MAX_BYTES:
        raise ValueError(f"the file has {info.st_size >> 20} MiB; the app takes up to {MAX_BYTES >> 20} MiB")
    return suffix


def check_container(path: Path) -> None:
    """Raise ValueError unless the file itself holds a video with frames within the limits."""
    with open_video(path, "the file", formats=FORMATS) as container:
        codec = best_stream(container, "the file").codec_context
        check_size(codec.height, codec.width)


def check_size(height: int, width: int) -> None:
    """Raise ValueError for frames that are too large, too small or too long a strip."""
    sides, limit = f"frames are {width} x {height} pixels", MAX_PIXELS
    if height * width > limit:
        raise ValueError(f"{sides}; the app takes up to {limit:,} pixels, such as 4096 x 2304")
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"{sides}; the app takes sides of {MIN_SIDE} and more, neither over {MAX_ASPECT} times the other")


def check_length(num_frames: int) -> None:
    """Raise ValueError for too many frames."""
    if num_frames > MAX_FRAMES:
        raise ValueError(f"the video has more than {MAX_FRAMES} frames; cut it, or use siammae propagate, which has no limit")
