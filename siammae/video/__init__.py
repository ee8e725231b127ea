"""Frames in, film out: videos, folders and pictures as frames [3, H, W], and pictures and films of frames.

`frames` reads sequences from any source, `pictures` single frames, `decode` video files; `encode` writes them.
"""

from siammae.video.encode import write_video
from siammae.video.frames import Frames, FrameSource, read_frames
from siammae.video.pictures import as_frame, as_picture, images_in, read_image, write_picture

__all__ = [
    "FrameSource",
    "Frames",
    "as_frame",
    "as_picture",
    "images_in",
    "read_frames",
    "read_image",
    "write_picture",
    "write_video",
]
