"""Limits of every reader: no pictures with too many pixels, and no paths but those of regular files."""

import os
import re
from urllib.parse import unquote, urlsplit

from PIL import Image

from siammae.errors import VideoError


def check_pixels(width: int, height: int, label: str) -> None:
    """Raise VideoError for a picture or frame larger than `PIL.Image.MAX_IMAGE_PIXELS`, the one limit of all readers."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise VideoError(
            f"{label} is {height} x {width} pixels, more than the limit of {limit}; make it smaller, or if you trust it, "
            "set PIL.Image.MAX_IMAGE_PIXELS to a larger number"
        )


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise VideoError for a folder, and for a pipe or device, which may never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise VideoError(f"{os.fspath(path)} is no regular file; expected a video or picture, not a folder, pipe or device")


def local_path(path: str | os.PathLike[str]) -> str:
    """Return a path with `~` expanded; VideoError for the address of something that is no local file."""
    text = os.fspath(path)
    if os.path.exists(text):
        return text
    if re.match("file:/", text, re.IGNORECASE):
        raise VideoError(f"{text} is an address; pass the path of the file: {unquote(urlsplit(text).path)}")
    if re.match("[a-z][a-z0-9+.-]+:/", text, re.IGNORECASE):
        raise VideoError(
            f"{text} is an address, but only files are read: pass read_frames(ADDRESS, allow_network=True) for a camera or a "
            "stream, download a video first (such as ffmpeg -i ADDRESS -c copy clip.mkv), or pass frames as an iterator"
        )
    return os.path.expanduser(text)
