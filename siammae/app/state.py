"""The state of a session as plain values for the page."""

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from siammae.app.downloads import downloads, formats
from siammae.app.labels import pack
from siammae.app.session import Session
from siammae.app.views import MAX_VIEW
from siammae.labels.masks import resize_nearest
from siammae.propagation.scores import CONFIDENT


def state_of(session: Session) -> dict[str, Any]:
    """Return everything but what belongs to one frame."""
    with session.lock:
        labels, results = session.labels, session.results
        height, width = session.frame_size
        start, stop, step = session.trim
        lost: dict[int, list[int]] = {}
        doubtful: dict[int, list[int]] = {}
        anchors = set(labels.frames("mask"))
        for frame, scores in sorted(results.scores.items()):
            if frame in anchors:
                continue  # a person has corrected it
            for number, (score, is_lost) in scores.items():
                if is_lost:
                    lost.setdefault(number, []).append(frame)
                elif score < CONFIDENT:
                    doubtful.setdefault(number, []).append(frame)
        return {
            "name": session.name,
            "width": width,
            "height": height,
            "frames": session.num_frames,
            "fps": session.fps,
            "trim": [start, stop, step],
            "objects": labels.objects,
            "anchors": labels.frames("mask"),
            "pointAnchors": labels.frames("points"),
            "undo": labels.undoable,
            "redo": labels.redoable,
            "done": spans(results.masks | results.tracks.keys()),
            "outdated": bool(results.changed) or results.points_changed,
            "lost": {number: spans(frames) for number, frames in lost.items()},
            "doubtful": {number: spans(frames) for number, frames in doubtful.items()},
            "files": downloads(session),
            "formats": formats(session),
            "doubtBelow": CONFIDENT,
            "estimate": session.estimate(),
            "job": session.job and session.job.status(),
            "revision": session.revision,
        }


def frame_state(session: Session, index: int) -> dict[str, Any]:
    """Return the labels of one frame: its mask as a grey PNG of the size of the picture, in base64, and its points."""
    ids, points = session.mask(index), session.points(index)
    height, width = ids.shape
    if (scale := MAX_VIEW / max(height, width)) < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        ids = resize_nearest(torch.from_numpy(ids), size).numpy()
    with session.lock:
        scores = session.results.scores.get(index, {})
        return {
            "frame": index,
            "mask": base64.b64encode(pack(ids)).decode() if ids.any() else None,
            "points": [[round(x, 2), round(y, 2)] if np.isfinite(x + y) else None for x, y in points.tolist()],
            "prompts": session.labels.get("prompts", index) or {},
            "scores": {number: [round(score, 3), lost] for number, (score, lost) in scores.items()},
            "anchor": session.labels.get("mask", index) is not None,
            "pointAnchor": session.labels.get("points", index) is not None,
            "revision": session.revision,
        }


def spans(numbers: Iterable[int]) -> list[list[int]]:
    """Join numbers that follow each other: the first and the last of each run."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
