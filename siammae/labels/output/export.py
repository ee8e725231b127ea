"""export_masks: the masks of a video as a folder in the format of another tool."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from PIL import Image
from torch import Tensor

from siammae.files import PathLike, atomic_folder
from siammae.labels.masks import MaskLike
from siammae.labels.output import coco, cvat, davis, label_studio, mot, yolo
from siammae.labels.output.masks import Names, VideoMasks
from siammae.video.frames import Frames, FrameSource, read_frames
from siammae.video.pictures import as_picture, encode_picture

FormatName: TypeAlias = Literal["coco", "yolo", "cvat", "label-studio", "davis", "mot"]
FPS = 25.0  # where the video does not say
QUALITY = 95  # of the JPEG pictures


class Format(NamedTuple):
    """A format: what writes the masks into a folder, and where the picture of a frame belongs in it."""

    write: Callable[[Path, VideoMasks, float], None]
    picture: Callable[[VideoMasks, int], str]


FORMATS: dict[FormatName, Format] = {
    "coco": Format(coco.write, coco.picture),
    "yolo": Format(yolo.write, yolo.picture),
    "cvat": Format(cvat.write, cvat.picture),
    "label-studio": Format(label_studio.write, label_studio.picture),
    "davis": Format(davis.write, davis.picture),
    "mot": Format(mot.write, mot.picture),
}
ENTRIES = (  # what a folder of any format may hold
    "annotations.json", "annotations.xml", "data.yaml", "tasks.json", "config.xml", "seqinfo.ini",
    "images", "labels", "gt", "img1", "Annotations", "ImageSets", "JPEGImages",
)  # fmt: skip


def export_masks(
    masks: PathLike | Sequence[MaskLike] | Any,
    folder: PathLike,
    format: FormatName = "coco",
    *,
    names: Names = None,
    frames: "FrameSource | None" = None,
    void_id: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the masks of a video in the format of another tool.

    Args:
        masks: folder of masks, as `siammae propagate` writes it; or ids [T, H, W], or a list of masks.
        folder: folder to write; its name is the title of the video in formats that have one. It appears when all is written.
        format: "coco" (annotations.json with run lengths; needs pycocotools), "yolo" (data.yaml and polygons), "cvat"
            (annotations.xml, CVAT for images 1.1), "label-studio" (tasks.json with brush masks, config.xml), "davis" (indexed
            PNG masks with DAVIS's palette) or "mot" (boxes in gt/gt.txt).
        names: name of every object by its id, such as {1: "horse", 2: "dog"}; several may share one. A text names all objects;
            None names them "object 1", "object 2", ...
        frames: video that the masks belong to, to write the pictures of its frames beside the labels, as JPEG. Frames are
            matched with the masks of a folder by their names, and with others by their order; frames without a mask are left
            out.
        void_id: id that means "unknown": its pixels belong to no object.
        overwrite: replace a folder that an earlier export wrote.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: there is no such folder of masks.
        FileExistsError: the folder exists and `overwrite` is off, or it holds other files than those of an export.
        ValueError: an unknown format; masks that `VideoMasks` refuses; ids that the format cannot hold; a mask without its
            frame, or of another size.
        ImportError: a package that the format needs is missing.
    """
    if format not in get_args(FormatName):
        raise ValueError(f"format is {format!r}; expected one of {', '.join(get_args(FormatName))}")
    target = Path(folder).resolve()
    source = None if frames is None else read_frames(frames)
    labeled = VideoMasks(masks, names, void_id=void_id, title=target.name)
    with atomic_folder(target, overwrite=overwrite, files=ENTRIES) as draft:
        FORMATS[format].write(draft, labeled, (source and source.fps) or FPS)
        if source is not None:
            _write_pictures(draft, labeled, source, FORMATS[format].picture)
    return target


def _write_pictures(folder: Path, masks: VideoMasks, frames: Frames, picture: Callable[[VideoMasks, int], str]) -> None:
    for position, frame in match_frames(frames, masks):
        path = folder / picture(masks, position)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_picture(Image.fromarray(as_picture(frame)), path.suffix, quality=QUALITY))


def match_frames(frames: Frames, masks: VideoMasks) -> Iterator[tuple[int, Tensor]]:
    """Yield the position of each mask with its frame [3, H, W], in the order of the frames; frames without a mask are left out.

    Masks of a folder belong to the frames of their names, others to the frames in their order.

    Raises:
        ValueError: a frame of another size than its mask; or, at the end, masks without a frame.
    """
    positions = {name: position for position, name in enumerate(masks.frames)}
    left = set(positions)
    for index, frame in enumerate(frames):
        name = frames.name(index) if masks.folder else f"{index:05d}"
        if name not in left:
            continue
        if frame.shape[-2:] != masks.size:
            sizes = [f"{height} x {width}" for height, width in (frame.shape[-2:], masks.size)]
            raise ValueError(
                f"frame {name} of {frames.label} is {sizes[0]} pixels, its mask {sizes[1]} (height x width); expected the "
                "video that the masks were made of"
            )
        yield positions[name], frame
        left.remove(name)
        if not left:
            return
    missing = [name for name in masks.frames if name in left]
    raise ValueError(
        f"{frames.label} has no frame for {len(missing)} masks ({', '.join(missing[:5])}{', ...' * (len(missing) > 5)}); "
        "expected the video that the masks were made of"
    )
