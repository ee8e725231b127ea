"""Frames in, film out: read videos, folders and pictures as frames [3, H, W]; write frames as videos and pictures.

`frames` reads sequences from any source, `pictures` reads and writes single frames, `decode` reads video files with PyAV, and
`encode` writes them.
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
