"""A session of the app: one open project, edited by a person and propagated by a model.

Letters: H x W pixels, K points.
"""

import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.app.cached import CachedEncoder
from siammae.app.drawing import check_path
from siammae.app.editing import Editing
from siammae.app.fitting import Fitter, Prompt, with_box, with_click
from siammae.app.job import Job
from siammae.app.labels import MAX_OBJECTS, Change, Ids, Kind
from siammae.app.project import as_rows
from siammae.app.steps import Plan, plan_steps, propagate_masks, propagate_points
from siammae.app.turns import Turns
from siammae.encoder import Encoder
from siammae.features import extract_features
from siammae.geometry import Geometry, InputSize


class Session(Editing):
    """A project that is open: label frames of a video, propagate, look, correct.

    Args:
        folder: the project's folder.
        encoder, size: the model and its input size.
        turns: queue for propagation, shared by all sessions of a process.
        fitter: maker of masks from prompts, shared by them too.

    Attributes:
        job: the last propagation that was started in the background, or None.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        *,
        size: InputSize = None,
        turns: Turns | None = None,
        fitter: Fitter | None = None,
    ) -> None:
        super().__init__(folder)
        self.encoder, self.size, self._turns = encoder, size, turns or Turns()
        self._fitter = fitter or Fitter(encoder, size)
        self.job: Job | None = None
        self._propagating = threading.Lock()
        self._running: list[tuple[int, Iterator[int]]] = []  # steps left, and the steps, of what was begun
        self._pace: float | None = None  # seconds for each frame, measured

    def close(self, *, remove: bool = True) -> None:
        """Stop, wait for the job, and remove the project's folder, if `remove`; every other method fails from here on."""
        with self.lock:
            self._ended, job = True, self.job
        if job is not None:
            job.stop()
            job.wait()
        self._fitter.forget(self.video)
        self.views.close()
        with self.lock:
            self._running = []
            if remove:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _is_free(self) -> bool:
        encodes = isinstance(self.encoder, CachedEncoder) and self.encoder.is_busy
        return not (encodes or (self.job is not None and self.job.active))

    def _note(self, change: Change) -> Change:
        if {kind for kind, _ in change} & {"mask", "points", "trim"}:
            self._running = []
        return super()._note(change)

    def fit_box(self, index: int, path: Sequence[Sequence[float]], number: int) -> Change:
        """Fit an object's mask to a box on a frame, which becomes an anchor; the object's own mask there is replaced.

        Args:
            index: number of the frame.
            path: (x, y) of places in pixels that the box spans.
            number: id of the object; a new one is added.

        Raises:
            ValueError: nothing fits; see `siammae.prompts.Segmenter`.
        """
        return self._fit(index, number, with_box(path, self.frame_size))

    def fit_click(self, index: int, place: Sequence[float], number: int, *, plus: bool) -> Change:
        """Fit an object's mask to one more click at (x, y), on the object if `plus`, else beside it; see `fit_box`."""
        with self._open():
            ids, (x, y) = self.mask(index), check_path([place], self.frame_size)[0].round().astype(int)
            other = int(ids[y, x])
            if plus and other not in (0, number):
                name = self.labels.objects.get(other, f"object {other}")
                raise ValueError(f"{name} is there already: choose it in the list, or erase it first")
            known = (self.labels.get("prompts", index) or {}).get(number)
            prompt = with_click(known, place, plus, self.frame_size, has_mask=bool((ids == number).any()))
        return self._fit(index, number, prompt)

    def _fit(self, index: int, number: int, prompt: Prompt) -> Change:
        with self._open():
            self._check_number(number, MAX_OBJECTS, "object")
            before = self.mask(index) == number
        with self._errors():
            fitted = self._fitter.fit(self.video, self.frames(), index, number, prompt, before)
        with self._open():
            ids = self.mask(index)
            ids[ids == number] = 0
            ids[fitted & (ids == 0)] = number  # other objects keep their pixels
            prompts = {**(self.labels.get("prompts", index) or {}), number: prompt}
            return self._set_mask(index, ids, dict(sorted(prompts.items())))

    def prepare(self, index: int) -> None:
        """Encode what the next steps need: this frame for boxes and clicks, the anchors and the next frame for propagation.

        The first time, it also measures how long a frame takes, for `estimate`.
        """
        with self._open():
            self._check_index(index)
            anchors = self.labels.frames("mask")
        with self._errors():
            self._fitter.prepare(self.video, self.frames(), index)
            for number in sorted({*anchors, index, min(index + 1, self.num_frames - 1)}):
                extract_features([self.frames()[number]], self.encoder, size=self.size, progress=False)
            if self._pace is None and index + 1 < self.num_frames:
                self._pace = self._try_step(index)

    def _try_step(self, index: int) -> float:
        """Return the seconds of a step from a frame to the next, both encoded already, and of encoding one."""
        height, width = self.frame_size
        ids = np.zeros(self.frame_size, np.uint8)
        ids[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
        steps = propagate_masks(self.frames(), {index: ids}, Plan([index, index + 1], []), self.encoder, self.size)
        next(steps)
        started = time.monotonic()
        next(steps)
        seconds = time.monotonic() - started
        if isinstance(self.encoder, CachedEncoder):
            seconds += self.encoder.seconds[Geometry.of(self.frame_size, self.encoder, self.size).input]
        return seconds

    def start(self) -> Job:
        """Start a propagation in the background; ValueError if one is active or nothing is labelled."""
        with self._open():
            if self.job is not None and self.job.active:
                raise ValueError("a propagation is under way already")
            self._check_labelled()
            self.job = Job(self.propagate, self._turns)
            self.job.start()
            return self.job

    def stop(self) -> None:
        """End the job, which runs or waits, after its present frame; the next propagation goes on from there."""
        if (job := self.job) is not None:
            job.stop()

    def propagate(self, tell: Callable[[int], None] | None = None) -> Generator[int, None, None]:
        """Propagate whatever is labelled to the other frames; yields the number of each frame when it has its labels.

        Masks and points go forwards from their first anchor, each later one being a correction, and then backwards. Results of
        unchanged labels are kept, and an iteration that ends early is continued by the next call. `tell` is given the number of
        labels to come.
        """
        if not self._propagating.acquire(blocking=False):
            raise ValueError("a propagation is under way already")
        try:
            with self._open():
                self._check_labelled()
                if not self._running:
                    self._running = self._begin()
                    self.results.save()
                running = self._running
            if tell is not None:
                tell(sum(left for left, _ in running))
            yield from self._advance(running)
        finally:
            self._propagating.release()

    def _check_labelled(self) -> None:
        if not self._anchors("points") and not any(ids.any() for ids in self._masks_given().values()):
            raise ValueError("nothing is labelled yet in the chosen frames: mark an object or place a point first")

    def _masks_given(self) -> dict[int, Ids]:
        """Return the ids [H, W] of the anchors, by frame, from the first that marks an object on."""
        masks = {index: ids for index in self._anchors("mask") if (ids := self.labels.mask(index)) is not None}
        first = next((index for index, ids in masks.items() if ids.any()), self.num_frames)
        return {index: ids for index, ids in masks.items() if index >= first}

    def _anchors(self, kind: Kind) -> list[int]:
        start, stop, _ = self.trim
        return [index for index in self.labels.frames(kind) if start <= index < stop]

    def _begin(self) -> list[tuple[int, Iterator[int]]]:
        """Plan the propagation of the labels as they are now, and remove the results that it will replace."""
        results, numbers, tasks = self.results, self.numbers, list[tuple[int, Iterator[int]]]()
        masks = self._masks_given()
        for index in results.masks - set(numbers if masks else []):
            results.remove_mask(index)
        if masks:
            plan = plan_steps(numbers, sorted(masks), results.masks, results.changed)
            for index in (*plan.forwards, *plan.backwards):
                results.remove_mask(index)
            tasks.append((len(plan), self._masks(masks, plan)))
        results.changed.clear()
        points = {index: as_rows(self.labels.get("points", index)) for index in self._anchors("points")}
        if not points:
            results.tracks.clear()
        elif results.points_changed or any(index not in results.tracks for index in numbers):
            results.tracks.clear()
            plan = plan_steps(numbers, sorted(points), (), ())
            tasks.append((len(plan), self._points(points, plan)))
        results.points_changed = False
        return tasks

    def _masks(self, anchors: dict[int, Ids], plan: Plan) -> Iterator[int]:
        for index, ids, scores in propagate_masks(self.frames(), anchors, plan, self.encoder, self.size):
            with self._open():
                self.results.write_mask(index, ids, scores)
                self.revision += 1
            yield index

    def _points(self, anchors: dict[int, NDArray[np.float32]], plan: Plan) -> Iterator[int]:
        for index, track in propagate_points(self.frames(), anchors, plan, self.encoder, self.size):
            with self._open():
                self.results.tracks[index] = track
                self.revision += 1
            yield index

    def _advance(self, running: list[tuple[int, Iterator[int]]]) -> Iterator[int]:
        """Run tasks by turns, so that both use a frame's features while they are kept."""
        with self._errors():
            started, count, num_tasks = time.monotonic(), 0, len(running)
            try:
                while running:
                    for task in list(running):
                        left, steps = task
                        if (index := next(steps, None)) is None:
                            running.remove(task)
                            continue
                        running[running.index(task)] = left - 1, steps
                        count += 1
                        self._pace = (time.monotonic() - started) / count * num_tasks
                        yield index
            except Exception:
                running.clear()  # its iterators cannot go on; the next propagation plans again
                raise
            finally:
                with self.lock:
                    if not self._ended:
                        self.results.save()

    def estimate(self) -> dict[str, Any]:
        """Return the number of frames to label, and the seconds that propagation will take, None before it is known."""
        frames, pace = len(self.numbers), self._pace
        return {"frames": frames, "seconds": None if pace is None else round(pace * frames, 1)}
