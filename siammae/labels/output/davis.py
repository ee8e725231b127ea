"""DAVIS: indexed PNG masks with the palette of DAVIS, in the folders of the data set."""

from pathlib import Path

from siammae.labels.masks import write_mask
from siammae.labels.output.masks import VideoMasks

MOST = 255  # the highest id of an indexed PNG


def picture(masks: VideoMasks, frame: int) -> str:
    """Return where the picture of a frame belongs in the folder."""
    return f"JPEGImages/480p/{masks.title}/{masks.frames[frame]}.jpg"


def write(folder: Path, masks: VideoMasks, fps: float) -> None:
    """Write Annotations/480p/TITLE/FRAME.png and ImageSets/2017/val.txt.

    Raises:
        ValueError: an id above 255.
    """
    if masks.ids[-1] > MOST:
        raise ValueError(
            f"ids go up to {masks.ids[-1]}; the format davis holds 1 to {MOST}: give the objects smaller ids, or choose coco, "
            "which holds any"
        )
    annotations = folder / "Annotations/480p" / masks.title
    annotations.mkdir(parents=True)
    for frame in masks:
        write_mask(annotations / f"{frame.name}.png", frame.ids)
    (folder / "ImageSets/2017").mkdir(parents=True)
    (folder / "ImageSets/2017/val.txt").write_text(f"{masks.title}\n")
