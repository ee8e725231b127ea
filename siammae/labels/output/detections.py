"""Masks as `supervision.Detections`, for its annotators, zones, counters and metrics."""

from typing import TYPE_CHECKING

import numpy as np

from siammae.labels.masks import MaskLike
from siammae.labels.output.masks import Names, find_objects, name_objects, read_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    import supervision


def to_detections(
    mask: MaskLike, *, names: Names = None, scores: "Mapping[int, float] | None" = None, void_id: int | None = None
) -> "supervision.Detections":
    """Turn the mask of one frame into detections, one for each object, by ascending ids.

    Args:
        mask: ids [H, W], in any form that `siammae.labels.as_mask` takes; a mask without objects gives no detections.
        names: name of every object by its id, one name for all, or None, as for `export_masks`. `class_id` numbers the
            different names from 0, in the order of the ids in `names`; without names it is the id. So it is the same in every
            frame.
        scores: confidence of the objects by their ids, such as `dict(zip(scores.ids, scores.score))` of a propagator.
        void_id: id that means "unknown".

    Returns:
        Detections with `xyxy`, `mask`, `class_id`, `tracker_id` (the ids), `data["class_name"]`, and `confidence` if scores
        are given.

    Raises:
        ImportError: supervision is missing.
        ValueError: soft labels, an object without a name or a score.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError('to_detections needs supervision: pip install "siammae[formats]"') from error
    ids = read_ids(mask, "the mask", void_id)
    objects = list(find_objects(ids))
    labels = [label for label, _, _ in objects]
    named = name_objects(names, labels)
    categories = list(dict.fromkeys(named[label] for label in sorted(named)))
    if scores is not None and (missing := [label for label in labels if label not in scores]):
        raise ValueError(f"objects {missing} have no score; expected one for every id of the mask")
    return supervision.Detections(
        xyxy=np.array([box for _, _, box in objects], dtype=np.float32).reshape(-1, 4),
        mask=np.array([pixels for _, pixels, _ in objects], dtype=bool).reshape(-1, *ids.shape),
        confidence=None if scores is None else np.array([scores[label] for label in labels], dtype=np.float32),
        class_id=np.array([label if names is None else categories.index(named[label]) for label in labels], dtype=int),
        tracker_id=np.array(labels, dtype=int),
        data={"class_name": np.array([named[label] for label in labels], dtype=str)},
    )
