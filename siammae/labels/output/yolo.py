"""YOLO segmentation, as Ultralytics reads it: data.yaml, and labels/FRAME.txt with a polygon of every object."""

import json
from pathlib import Path

from siammae.labels.output.contours import polygon
from siammae.labels.output.masks import LabeledObject, VideoMasks

INTO_PIXEL = 0.25  # part of a pixel beyond its corner: readers that round find the same pixel as those that cut off


def picture(masks: VideoMasks, frame: int) -> str:
    """Return where the picture of a frame belongs in the folder."""
    return f"images/{masks.frames[frame]}.jpg"


def write(folder: Path, masks: VideoMasks, fps: float) -> None:
    """Write data.yaml and labels/FRAME.txt, empty for a frame without objects.

    A line is the number of the object's name in data.yaml, then x and y of each corner as shares of width and height.
    """
    (folder / "labels").mkdir()
    for frame in masks:
        lines = [_line(each) for each in frame.objects]
        (folder / "labels" / f"{frame.name}.txt").write_text("".join(lines))
    names = "".join(f"  {place}: {json.dumps(name)}\n" for place, name in enumerate(masks.categories))  # JSON is YAML
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}")


def _line(each: LabeledObject) -> str:
    height, width = each.mask.shape
    points = ((polygon(each.mask) + INTO_PIXEL) / (width, height)).ravel().tolist()
    return f"{each.category} {' '.join(f'{value:.7f}' for value in points)}\n"
