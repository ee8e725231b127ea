"""The commands that hand masks on: `export-masks` for other tools, `cut-out` for film and design."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from siammae.cli.checks import Readable, ReadableVideo
from siammae.cli.options import Out, Video

MaskFolder = Annotated[Positional[Path], arg(metavar="MASKS"), Readable("folder of masks")]


def export_masks(
    masks: MaskFolder,
    out: Out,
    format: Literal["coco", "yolo", "cvat", "label-studio", "davis", "mot"] = "coco",
    names: tuple[str, ...] = (),
    video: Annotated[str | None, ReadableVideo()] = None,
    void_id: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write the masks of a video in the format of another tool: COCO, YOLO, CVAT, Label Studio, DAVIS or MOT.

    Example: siammae export-masks masks --format coco --names 1=horse 2=dog --video horse.mp4 -o horse-coco

    Example: siammae export-masks masks --format mot --names fish -o tank-3

    Args:
        masks: Folder of masks, as siammae propagate writes it.
        out: Folder to write; its name is the title of the video in formats that have one.
        format: Format of the labels.
        names: Names of the objects, such as 1=horse 2=dog; several may share one. One name alone is for all objects.
        video: Video that the masks were made of, whose frames are written beside the labels as JPEG.
        void_id: Id that means "unknown" in the masks, such as 255.
        overwrite: Replace a folder that an earlier export wrote.
    """
    from siammae.labels.output import export_masks as export

    folder = export(masks, out, format, names=read_names(names), frames=video, void_id=void_id, overwrite=overwrite)
    print(f"{format}: {folder}")


def read_names(words: tuple[str, ...]) -> dict[int, str] | str | None:
    """Read words such as "1=horse", or a single name for all; ValueError for other words, or an id that comes twice."""
    if len(words) < 2 and not any("=" in word for word in words):
        return words[0] if words else None
    names: dict[int, str] = {}
    for word in words:
        label, separator, name = word.partition("=")
        if not separator or not label.isdecimal():
            raise ValueError(f"--names {word}: expected ID=NAME for every object, such as 1=horse 2=dog, or one name for all")
        if int(label) in names:
            raise ValueError(f"--names gives object {label} two names: {names[int(label)]} and {name}")
        names[int(label)] = name
    return names


def cut_out(
    video: Video,
    masks: MaskFolder,
    out: Out,
    ids: tuple[int, ...] = (),
    void_id: int | None = None,
) -> None:
    """Cut the objects of a video out of their background, with transparency.

    Example: siammae cut-out horse.mp4 masks -o horse.webm

    Example: siammae cut-out horse.mp4 masks -o cut-outs --ids 1 3

    Args:
        masks: Folder of masks, as siammae propagate writes it.
        out: File to write: .webm (VP9 with alpha) or .mov (ProRes 4444); or a folder, without a suffix, for one PNG a frame.
        ids: Ids of the objects to cut out; all if not given.
        void_id: Id that means "unknown" in the masks, such as 255.
    """
    from siammae.visualize.cutouts import write_cut_outs

    write_cut_outs(out, video, masks, ids=ids or None, void_id=void_id)
    print(f"cut-outs: {out}")
