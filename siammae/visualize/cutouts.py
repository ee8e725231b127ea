"""Cut-outs: the objects of a video without their background, as pictures and films with transparency."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siammae.files import PathLike, atomic_folder
from siammae.labels.masks import MaskLike, as_mask
from siammae.labels.output import FPS, VideoMasks, match_frames
from siammae.video.alpha import ALPHA_CODECS, write_alpha_video
from siammae.video.frames import FrameSource, read_frames
from siammae.video.pictures import as_picture


def cut_out(frame: Any, mask: MaskLike, ids: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Cut the objects of a mask out of a frame: a picture [H, W, 4], R, G, B and alpha, not premultiplied.

    Alpha is 255 on the objects of a mask of ids; of soft labels [L, H, W] it is their sum. Where it is 0, so are the colours:
    nothing of the background is left in the picture.

    Args:
        frame: any frame that `siammae.video.as_frame` takes.
        mask: ids [H, W], or soft labels [L, H, W], in any form that `siammae.labels.as_mask` takes.
        ids: ids of the objects, or channels of the soft labels, to cut out; None takes all but the background, id 0. An object
            that is absent from this frame leaves nothing.

    Raises:
        ValueError: the frame and the mask differ in size; ids of the background, or channels that do not exist.
    """
    picture, parsed = as_picture(frame), as_mask(mask, empty=True)
    if parsed.size != picture.shape[:2]:
        sizes = [f"{height} x {width}" for height, width in (parsed.size, picture.shape[:2])]
        raise ValueError(f"the mask is {sizes[0]} pixels; expected {sizes[1]}, the height and width of the frame")
    if parsed.soft:
        channels = range(len(parsed.values)) if ids is None else ids
        if wrong := [channel for channel in channels if not 0 <= channel < len(parsed.values)]:
            raise ValueError(f"ids has {wrong}; expected channels of the soft labels, 0 to {len(parsed.values) - 1}")
        opacity = parsed.values[list(channels)].sum(axis=0).clip(0, 1)
    else:
        if ids is not None and 0 in ids:
            raise ValueError("ids has 0, the background; expected ids of objects")
        opacity = parsed.values != 0 if ids is None else np.isin(parsed.values, ids)
    alpha = (opacity * 255).round().astype(np.uint8)[..., None]
    return np.concatenate([picture * (alpha > 0), alpha], axis=-1)


def write_cut_outs(
    path: PathLike,
    frames: FrameSource,
    masks: PathLike | Sequence[MaskLike] | Any,
    *,
    ids: Sequence[int] | None = None,
    void_id: int | None = None,
    fps: float | None = None,
) -> None:
    """Cut objects out of a video, and write them with transparency, frame by frame.

    Args:
        path: .webm (VP9 with alpha) or .mov (ProRes 4444); or a folder, without a suffix, for one PNG a frame, named after its
            mask. It appears when all is written.
        frames: video that the masks belong to; frames without a mask are left out.
        masks: folder of masks, as `siammae propagate` writes it; or ids [T, H, W], or a list of masks.
        ids: ids of the objects to cut out; None takes all.
        void_id: id that means "unknown": its pixels belong to no object.
        fps: frames per second of a film; None takes those of the video, or 25 where it does not say.

    Raises:
        ValueError: another suffix; ids that no mask holds; masks that `siammae.output.VideoMasks` refuses; a mask without its
            frame, or of another size.
        FileExistsError: the folder exists.
        FileNotFoundError: there is no such folder of masks, or no folder for the film.
    """
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in ALPHA_CODECS:
        raise ValueError(
            f"{os.fspath(path)} ends in {suffix}; expected {', '.join(sorted(ALPHA_CODECS))}, or a folder for PNG files"
        )
    if not suffix and Path(path).exists():
        raise FileExistsError(f"{os.fspath(path)} exists; remove it, or choose another folder")
    source, labeled = read_frames(frames), VideoMasks(masks, void_id=void_id)
    chosen = labeled.ids if ids is None else list(ids)
    if unknown := [label for label in chosen if label not in labeled.ids]:
        raise ValueError(f"no mask holds the ids {unknown}; the ids of the objects are {labeled.ids}")
    pictures = (
        (position, cut_out(frame, labeled.at(position).ids, chosen)) for position, frame in match_frames(source, labeled)
    )
    if suffix:
        rate = fps or source.fps or FPS
        write_alpha_video(path, (picture for _, picture in pictures), rate, pixel_aspect=source.pixel_aspect)
        return
    with atomic_folder(path) as draft:
        for position, picture in pictures:
            Image.fromarray(picture).save(draft / f"{labeled.frames[position]}.png")
