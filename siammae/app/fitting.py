"""Masks from boxes and clicks: the frames that were prompted last stay encoded, so that each further prompt is quick.

Letters: H x W pixels.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from siammae.app.drawing import check_path
from siammae.encoder import Encoder
from siammae.geometry import InputSize
from siammae.prompts import Segmenter
from siammae.video.frames import Frames

MAX_SEGMENTERS = 3  # kept for all projects together; each may hold 256 MiB


class Prompt(TypedDict):
    """The box and the clicks that mark one object of one frame.

    `box` is (left, top, right, bottom) in pixels or None; `clicks` are (x, y, 1 on the object or 0 beside it); with `base`, the
    clicks correct a mask that was there before them.
    """

    box: list[float] | None
    clicks: list[list[float]]
    base: bool


class Fitter:
    """A maker of masks from prompts, shared by all sessions; its methods may be called from any thread.

    Args:
        encoder, size: the model and its input size.
    """

    def __init__(self, encoder: Encoder, size: InputSize = None) -> None:
        self._encoder, self._size, self._lock = encoder, size, threading.Lock()
        self._segmenters: OrderedDict[tuple[Path, int], Segmenter] = OrderedDict()  # by video and frame

    def prepare(self, video: Path, frames: Frames, index: int) -> None:
        """Encode a frame, so that its first prompt does not wait for it."""
        with self._lock:
            self._segmenter(video, frames, index)

    def fit(
        self, video: Path, frames: Frames, index: int, number: int, prompt: Prompt, mask: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return the mask [H, W] of the object that a prompt means.

        Args:
            video: file that the frames come from.
            frames: frames of the video.
            index: number of the frame.
            number: id of the object, 1 to 255.
            prompt: box and clicks, at least one of them.
            mask: the object's mask so far [H, W], which counts if the prompt has it as its base.

        Raises:
            ValueError: see `Segmenter.segment`.
        """
        places, labels = [click[:2] for click in prompt["clicks"]], [click[2] for click in prompt["clicks"]]
        with self._lock:
            segmenter = self._segmenter(video, frames, index)
            ids = segmenter.segment(
                box={number: prompt["box"]} if prompt["box"] else None,
                points={number: places} if places else None,
                labels={number: labels} if places else None,
                mask=np.where(mask, number, 0).astype(np.uint8) if prompt["base"] else None,
            )
        found: NDArray[np.bool_] = ids == number
        return found

    def forget(self, video: Path) -> None:
        """Drop what is kept of a video."""
        with self._lock:
            for key in [key for key in self._segmenters if key[0] == video]:
                del self._segmenters[key]

    def _segmenter(self, video: Path, frames: Frames, index: int) -> Segmenter:
        key = video, index
        if key not in self._segmenters:
            while len(self._segmenters) >= MAX_SEGMENTERS:
                self._segmenters.popitem(last=False)
            self._segmenters[key] = Segmenter(self._encoder, frames[index], size=self._size)
        self._segmenters.move_to_end(key)
        return self._segmenters[key]


def with_box(path: Sequence[Sequence[float]], size: tuple[int, int]) -> Prompt:
    """Return the prompt of a new box that spans a path, within a frame of size (H, W)."""
    places = check_path(path, size)
    (left, top), (right, bottom) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    return {"box": [left, top, right, bottom], "clicks": [], "base": False}


def with_click(prompt: Prompt | None, place: Sequence[float], plus: bool, size: tuple[int, int], *, has_mask: bool) -> Prompt:
    """Return a prompt with one more click at (x, y).

    The first click of an object that has a mask corrects the mask, and so does one that adds what lies outside its box.

    Raises:
        ValueError: a click beside the object comes before anything that marks the object.
    """
    x, y = check_path([place], size)[0].tolist()
    known: Prompt = prompt or {"box": None, "clicks": [], "base": has_mask}
    if plus and known["box"] is not None:
        left, top, right, bottom = known["box"]
        if not (left <= x <= right and top <= y <= bottom):
            known = {"box": None, "clicks": [], "base": has_mask}
    if not (plus or known["box"] or known["base"] or any(click[2] for click in known["clicks"])):
        raise ValueError("there is nothing to take away from yet: drag a box around the object, or click on it")
    return {**known, "clicks": [*known["clicks"], [x, y, int(plus)]]}
