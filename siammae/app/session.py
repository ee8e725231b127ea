"""One person's work in the app: a video, the labels of its anchors, and the labels propagated to the other frames.

Everything that grows with the video is a file in the session's own folder. Letters: H x W pixels, K points.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from siammae.app.upload import check_container, check_file, check_length, check_size
from siammae.encoder import Encoder
from siammae.features import extract_features
from siammae.files import atomic
from siammae.geometry import InputSize
from siammae.labels.masks import Mask, as_mask, resize_nearest, write_mask
from siammae.propagation.keypoints import KeypointPropagator
from siammae.propagation.masks import LabelPropagator
from siammae.propagation.walk import walk
from siammae.video.frames import Frames, read_frames
from siammae.video.pictures import as_picture, read_image
from siammae.visualize.colors import FeatureColors
from siammae.visualize.maps import attention_maps, draw_heat
from siammae.visualize.masks import overlay
from siammae.visualize.points import draw_keypoints
from siammae.visualize.sheets import contact_sheet

Picture = NDArray[np.uint8]
Tool = Literal["Brush", "Eraser", "Box", "Points"]

MAX_VIEW = 1280  # longer side of a picture in the browser, pixels
NUM_OBJECTS = 8


class Session:
    """Open a video, label frames, propagate, look, correct.

    Attributes:
        folder: folder of this session alone; `close` removes it.
        num_frames: number of frames of the video, 0 before one is open.
        anchors: numbers of the frames whose masks were made by hand.
        points: by frame, positions [K, 2] of keypoints placed by hand, NaN where not placed.
        tracks: by frame, points [K, 2] and scores [K] of propagated keypoints.
    """

    def __init__(self, encoder: Encoder, *, size: InputSize = None, root: Path | None = None) -> None:
        self.encoder, self.size = encoder, size
        self.folder = Path(tempfile.mkdtemp(prefix="session-", dir=root))
        self._stop = threading.Event()
        self._forget()

    def _forget(self) -> None:
        self.num_frames, self.anchors = 0, set[int]()
        self.points: dict[int, NDArray[np.float32]] = {}
        self.tracks: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._changed = set[int]()
        self._colors: FeatureColors | None = None
        self._undo: tuple[int, NDArray[np.uint8] | None] | None = None
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for name in ("views", "masks", "anchors"):
            (self.folder / name).mkdir()

    def close(self) -> None:
        """Stop, and remove all files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End a running `propagate` after its present frame."""
        self._stop.set()

    def open(self, path: Path) -> Iterator[int]:
        """Copy a video and read all its frames; yields the number of frames read so far.

        Raises:
            ValueError: the file is no video, is damaged, or exceeds the limits.
        """
        self.stop()
        self._forget()
        suffix = check_file(path)
        self.video = self.folder / f"video{suffix}"
        shutil.copyfile(path, self.video, follow_symlinks=False)
        try:
            check_container(self.video)
            frames = self.frames()
            for index, frame in enumerate(frames):
                check_length(max(frames.length or 0, index + 1))
                height, width = frame.shape[1:]
                check_size(height, width)
                self.frame_size, self.fps = (height, width), frames.fps or 25
                self._write_view(index, frame)
                yield index + 1
        except (ValueError, OSError) as error:
            self._forget()
            raise ValueError(str(error).replace(str(self.video), "the video")) from error
        self.num_frames = index + 1

    def _write_view(self, index: int, frame: Tensor) -> None:
        picture = Image.fromarray(as_picture(frame))
        picture.thumbnail((MAX_VIEW, MAX_VIEW))
        with atomic(self._view(index)) as draft:
            picture.save(draft, quality=92)

    def frames(self) -> Frames:
        """Return the video, read lazily at its full size."""
        return read_frames(self.video)

    def _view(self, index: int) -> Path:
        return self.folder / "views" / f"{index:05d}.jpg"

    def _read_view(self, index: int) -> Picture:
        """Read a frame as the browser shows it."""
        self._check_index(index)
        return as_picture(self._view(index))

    def _mask(self, kind: Literal["anchors", "masks"], index: int) -> Path:
        return self.folder / kind / f"{index:05d}.png"

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Read the ids [H, W] of a frame: the anchor's, else the propagated ones, else background."""
        for kind in ("anchors", "masks"):
            if (path := self._mask(kind, index)).exists():
                return as_mask(path, empty=True).values
        return np.zeros(self.frame_size, np.uint8)

    def draw(self, index: int, tool: Tool, path: Sequence[Sequence[float]], number: int, width: float) -> None:
        """Draw on a frame, which makes it an anchor; strokes change its propagated mask, if it has one.

        Args:
            index: number of the frame.
            tool: "Brush" and "Eraser" follow the path, "Box" spans it, "Points" sets point `number` at its end.
            path: (x, y) in pixels of the frame, at least one.
            number: number of the object or point, from 1.
            width: width of the brush in pixels.
        """
        self._check_index(index)
        places = np.asarray(path, dtype=np.float64)
        if places.ndim != 2 or places.shape[1] != 2 or not 1 <= len(places) <= 10_000 or not np.isfinite(places).all():
            raise ValueError("a stroke is a list of 1 to 10000 places, x and y in pixels")
        if not 1 <= number <= NUM_OBJECTS:
            raise ValueError(f"number {number}: expected 1 to {NUM_OBJECTS}")
        height, frame_width = self.frame_size
        places = places.clip(0, (frame_width - 1, height - 1))
        if tool == "Points":
            before = self._points(index)
            points = np.full((max(len(before), number), 2), np.nan, np.float32)
            points[: len(before)] = before
            points[number - 1] = places[-1]
            self.points[index] = points
            return
        ids = self.mask(index)
        mask = Image.fromarray(ids)
        _draw_shape(ImageDraw.Draw(mask), tool, places, 0 if tool == "Eraser" else number, width)
        self._undo = index, ids if index in self.anchors else None
        self._label(index, np.array(mask))

    def undo(self, index: int) -> None:
        """Take back the last stroke, if it was on this frame."""
        if self._undo and self._undo[0] == index:
            (_, before), self._undo = self._undo, None
            if before is None:
                self._discard_mask(index)
            else:
                self._label(index, before)

    def discard(self, index: int) -> None:
        """Remove the hand-made labels of a frame."""
        self.points.pop(index, None)
        self._discard_mask(index)

    def _discard_mask(self, index: int) -> None:
        if index in self.anchors:
            self.anchors.discard(index)
            self._mask("anchors", index).unlink()
            self._changed.add(index)

    def _label(self, index: int, mask: NDArray[np.uint8]) -> None:
        write_mask(self._mask("anchors", index), mask)
        self.anchors.add(index)
        self._changed.add(index)

    def prepare(self, index: int) -> None:
        """Encode the frames that the first preview needs: the anchors, this frame and the next."""
        numbers = sorted(number for number in {*self.anchors, index, index + 1} if number < self.num_frames)
        for frame in self.frames().at(numbers):
            extract_features([frame], self.encoder, size=self.size, progress=False)

    def propagate(self, what: Literal["masks", "points"]) -> Iterator[int]:
        """Propagate masks or points to the other frames; yields the number of each frame when it has its labels.

        Goes forwards from the first anchor, each later one being a correction, and then backwards to frame 0. Results of
        unchanged labels are kept, and `stop` keeps everything finished so far.
        """
        self._stop.clear()
        if not (self.anchors if what == "masks" else self.points):
            first_step = "paint or box an object" if what == "masks" else "click a point"
            raise ValueError(f"nothing is labelled yet: {first_step} first")
        for index in self._propagate_masks() if what == "masks" else self._propagate_points():
            yield index
            if self._stop.is_set():
                return

    def _propagate_masks(self) -> Iterator[int]:
        first = min(self.anchors)
        done = {int(path.stem) for path in (self.folder / "masks").glob("*.png")}
        next_frame = next((i for i in range(first, self.num_frames) if i not in done), self.num_frames)
        outdated = min([next_frame, *self._changed])
        restart = not done or outdated <= first
        begin = first if restart else max(i for i in self.anchors if i <= outdated)
        for index in done:
            if restart or index >= begin:
                self._mask("masks", index).unlink()
        self._changed.clear()
        propagator: LabelPropagator[Any] | None = None
        for index, frame in enumerate(self.frames()):
            if index in self.anchors:
                anchor = as_mask(self._mask("anchors", index), empty=True)
                if propagator is None:
                    first_frame, propagator = frame, self._propagator(frame, anchor)
                else:
                    propagator.add(frame, anchor)
                mask = anchor.values
            elif index > begin and propagator is not None:
                mask = propagator.step(frame)
            if index >= begin:
                write_mask(self._mask("masks", index), mask)
                yield index
        if first and not self._mask("masks", 0).exists():
            propagator = self._propagator(first_frame, as_mask(self._mask("anchors", first)))
            for index, frame in zip(range(first - 1, -1, -1), self.frames().backwards(first), strict=True):
                write_mask(self._mask("masks", index), propagator.step(frame))
                yield index

    def _propagator(self, frame: Tensor, mask: Mask) -> LabelPropagator[Any]:
        return LabelPropagator(frame, mask, self.encoder, size=self.size)

    def _propagate_points(self) -> Iterator[int]:
        """Propagate the points of each anchor up to the next one, and those of the first backwards too."""
        self.tracks.clear()
        for index, frame, _ in walk(self.frames(), min(self.points), progress=False):
            if index in self.points:
                propagator = KeypointPropagator(frame, self.points[index], self.encoder, size=self.size)
            else:
                propagator.step(frame)
            is_new = index not in self.tracks
            self.tracks[index] = propagator.points, propagator.scores
            if is_new:
                yield index

    def picture(self, index: int) -> Picture:
        """Draw a frame with its masks and points, at most MAX_VIEW pixels a side."""
        picture = self._read_view(index)
        ids = resize_nearest(torch.from_numpy(self.mask(index)), picture.shape[:2]).numpy()
        scale = picture.shape[1] / self.frame_size[1]
        return draw_keypoints(overlay(picture, ids), (self._points(index) + 0.5) * scale - 0.5)

    def _points(self, index: int) -> NDArray[np.float32]:
        """Return the points [K, 2] of a frame: the anchor's, else the propagated ones, else none."""
        if index in self.points:
            return self.points[index]
        return self.tracks[index][0] if index in self.tracks else np.empty((0, 2), np.float32)

    def attention(self, index: int) -> Picture:
        """Draw the frame, and where each head's CLS token looks in it."""
        view = self._read_view(index)
        maps = attention_maps(view, self.encoder, size=self.size)
        return contact_sheet([view, *(draw_heat(view, heat) for heat in maps)], columns=2)

    def feature_colors(self, index: int) -> Picture:
        """Draw the first three principal components of the frame's features as colours, fitted once to the video."""
        self._check_index(index)

        def features(indices: Sequence[int]) -> Tensor:
            views = [self._view(number) for number in indices]
            return extract_features(views, self.encoder, size=self.size, batch_size=1, progress=False)

        if self._colors is None:
            self._colors = FeatureColors(features(sorted({0, self.num_frames // 2, self.num_frames - 1})))
        width, height = read_image(self._view(index)).size
        picture: Picture = self._colors(features([index]), (height, width))[0]
        return picture

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.num_frames:
            raise ValueError(
                f"there is no frame {index}; the video has {self.num_frames}" if self.num_frames else "open a video"
            )


def _draw_shape(draw: ImageDraw.ImageDraw, tool: Tool, places: NDArray[np.float64], number: int, width: float) -> None:
    if tool == "Box":
        (left, top), (right, bottom) = places.min(axis=0).round(), places.max(axis=0).round()
        draw.rectangle((left, top, right, bottom), fill=number)
        return
    radius = min(max(width, 1), 500) / 2
    if len(places) > 1:
        draw.line([tuple(place) for place in places.tolist()], fill=number, width=round(2 * radius))
    for x, y in places:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=number)
