"""COCO: annotations.json with a mask of every object as compressed run lengths."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from siammae.labels.output.masks import LabeledFrame, LabeledObject, VideoMasks


def picture(masks: VideoMasks, frame: int) -> str:
    """Return where the picture of a frame belongs in the folder."""
    return f"images/{masks.frames[frame]}.jpg"


def write(folder: Path, masks: VideoMasks, fps: float) -> None:
    """Write annotations.json; the id of an object is its `track_id`, its confidence, where known, its `score`.

    Raises:
        ImportError: pycocotools is missing.
    """
    height, width = masks.size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in masks:
        name = Path(picture(masks, frame.position)).name
        images.append({"id": frame.position + 1, "file_name": name, "height": height, "width": width})
        annotations += [_annotation(frame, each, len(annotations) + 1 + place) for place, each in enumerate(frame.objects)]
    categories = [{"id": place, "name": name, "supercategory": ""} for place, name in enumerate(masks.categories, 1)]
    values = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(values))


def _annotation(frame: LabeledFrame, each: LabeledObject, number: int) -> dict[str, Any]:
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError('the format coco needs pycocotools: pip install "siammae[formats]"') from error
    runs = coco.encode(np.asfortranarray(each.mask.astype(np.uint8)))
    left, top, right, bottom = each.box
    values = {
        "id": number,
        "image_id": frame.position + 1,
        "category_id": each.category + 1,
        "track_id": each.id,
        "segmentation": {"size": list(each.mask.shape), "counts": runs["counts"].decode("ascii")},
        "area": each.area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }
    return values if each.score is None else {**values, "score": each.score}
