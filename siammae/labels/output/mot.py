"""MOTChallenge: boxes of the objects in gt/gt.txt, in the layout of one of its sequences."""

import configparser
from pathlib import Path

from siammae.labels.output.masks import VideoMasks


def picture(masks: VideoMasks, frame: int) -> str:
    """Return where the picture of a frame belongs in the folder."""
    return f"img1/{frame + 1:06d}.jpg"


def write(folder: Path, masks: VideoMasks, fps: float) -> None:
    """Write gt/gt.txt, gt/labels.txt with the names, and seqinfo.ini.

    A line of gt.txt is frame, id, left, top, width, height, 1 (it counts), number of the name, 1 (all of it is visible).
    Frames, corners and names are counted from 1, as MOTChallenge does: the top left pixel is (1, 1).
    """
    (folder / "gt").mkdir()
    with (folder / "gt/gt.txt").open("w") as file:
        for frame in masks:
            for each in frame.objects:
                left, top, right, bottom = each.box
                box = left + 1, top + 1, right - left, bottom - top
                print(frame.position + 1, each.id, *box, 1, each.category + 1, 1, sep=",", file=file)
    (folder / "gt/labels.txt").write_text("".join(f"{name}\n" for name in masks.categories))
    height, width = masks.size
    info = configparser.RawConfigParser()
    info.optionxform = str  # type: ignore[assignment, method-assign]  # keeps capitals
    info["Sequence"] = {
        "name": masks.title,
        "imDir": "img1",
        "frameRate": str(max(1, round(fps))),
        "seqLength": str(len(masks)),
        "imWidth": str(width),
        "imHeight": str(height),
        "imExt": ".jpg",
    }
    with (folder / "seqinfo.ini").open("w") as file:
        info.write(file, space_around_delimiters=False)
