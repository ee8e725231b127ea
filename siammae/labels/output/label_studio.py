"""Label Studio: tasks.json to import, with a brush mask of every object, and config.xml, the labeling interface."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from siammae.labels.output.masks import LabeledFrame, VideoMasks
from siammae.labels.output.runs import brush_runs

FROM, TO = "label", "image"  # names of the controls in the labeling interface


def picture(masks: VideoMasks, frame: int) -> str:
    """Return where the picture of a frame belongs in the folder."""
    return f"images/{masks.frames[frame]}.jpg"


def write(folder: Path, masks: VideoMasks, fps: float) -> None:
    """Write tasks.json, a task for each frame with its annotation, and config.xml, with the names as brush labels.

    The pictures are named as Label Studio's local storage wants it when the folder above this one is its root.
    """
    tasks = [_task(frame, masks) for frame in masks]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    view = xml.Element("View")
    xml.SubElement(view, "Image", name=TO, value="$image", zoom="true")
    brush = xml.SubElement(view, "BrushLabels", name=FROM, toName=TO)
    for name in masks.categories:
        xml.SubElement(brush, "Label", value=name)
    xml.indent(view)
    (folder / "config.xml").write_text(xml.tostring(view, encoding="unicode") + "\n")


def _task(frame: LabeledFrame, masks: VideoMasks) -> dict[str, Any]:
    height, width = masks.size
    results = [
        {
            "id": f"{frame.name}-{each.id}",
            "type": "brushlabels",
            "from_name": FROM,
            "to_name": TO,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_runs(each.mask), "brushlabels": [each.name]},
            "meta": {"text": [f"object {each.id}"]},
            **({} if each.score is None else {"score": each.score}),
        }
        for each in frame.objects
    ]
    address = f"/data/local-files/?d={masks.title}/{picture(masks, frame.position)}"
    return {"data": {"image": address, "frame": frame.name}, "annotations": [{"result": results}]}
