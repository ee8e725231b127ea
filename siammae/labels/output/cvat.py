"""CVAT for images 1.1: annotations.xml with a mask of every object."""

from pathlib import Path
from xml.etree import ElementTree as xml

from siammae.labels.output.masks import LabeledObject, VideoMasks
from siammae.labels.output.runs import run_lengths


def picture(masks: VideoMasks, frame: int) -> str:
    """Return where the picture of a frame belongs in the folder."""
    return f"images/{masks.frames[frame]}.jpg"


def write(folder: Path, masks: VideoMasks, fps: float) -> None:
    """Write annotations.xml; the id of an object is its `group_id`."""
    height, width = masks.size
    root = xml.Element("annotations")
    xml.SubElement(root, "version").text = "1.1"
    task = xml.SubElement(xml.SubElement(root, "meta"), "task")
    xml.SubElement(task, "size").text = str(len(masks))
    xml.SubElement(task, "mode").text = "annotation"
    labels = xml.SubElement(task, "labels")
    for name in masks.categories:
        label = xml.SubElement(labels, "label")
        xml.SubElement(label, "name").text = name
        xml.SubElement(label, "type").text = "mask"
        xml.SubElement(label, "attributes")
    for frame in masks:
        name = Path(picture(masks, frame.position)).name
        image = xml.SubElement(root, "image", id=str(frame.position), name=name, width=str(width), height=str(height))
        for each in frame.objects:
            xml.SubElement(image, "mask", _mask(each))
    xml.indent(root)
    xml.ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)


def _mask(each: LabeledObject) -> dict[str, str]:
    """Return the attributes of a mask: run lengths of its box, row by row, background first."""
    left, top, right, bottom = each.box
    runs = run_lengths(each.mask[top:bottom, left:right].ravel())
    place = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {
        "label": each.name,
        "source": "auto",
        "occluded": "0",
        "rle": ", ".join(map(str, runs)),
        **{key: str(value) for key, value in place.items()},
        "z_order": "0",
        "group_id": str(each.id),
    }
