"""Mean IoU of classes, for VIP and Chen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.metrics import confusion_matrix, frequency_weighted_iou, intersection_over_union, pixel_accuracy
from siammae.labels.masks import Mask, as_mask


@dataclass(frozen=True)
class IouScores:
    """Scores of a set of videos.

    Attributes:
        confusion: for each video, confusion matrices [T, C, C] of the T frames that count.
        classes: names of the C classes.
        per_video: the headline is the mean over videos of each one's mean IoU, not that of all their pixels together. Where
            an id means something else in every video, only the former makes sense.
        shared: the ids mean the same in all videos, so that their pixels can be counted together.
        first_class: the smallest id that is a class; smaller ones are void.
    """

    confusion: dict[str, NDArray[np.int64]]
    classes: tuple[str, ...]
    per_video: bool = False
    shared: bool = True
    first_class: int = 0

    @property
    def total(self) -> NDArray[np.int64]:
        """The confusion matrix [C, C] of all pixels of all videos."""
        total: NDArray[np.int64] = np.sum([frames.sum(axis=0) for frames in self.confusion.values()], axis=0)
        return total

    @property
    def class_ious(self) -> NDArray[np.float64]:
        """IoU of each class over all pixels of all videos, [C]; NaN for one that never occurs."""
        return intersection_over_union(self.total)

    @property
    def pooled(self) -> float:
        """Mean IoU of the classes over all pixels of all videos, as CRW's and CropMAE's scripts compute it."""
        return self._mean_iou(self.total)

    @property
    def videos(self) -> dict[str, float]:
        """Mean IoU of each video alone."""
        return {name: self._mean_iou(frames.sum(axis=0)) for name, frames in self.confusion.items()}

    @property
    def video_mean(self) -> float:
        """Mean over videos of each one's mean IoU."""
        return float(np.mean(list(self.videos.values())))

    @property
    def means(self) -> dict[str, float]:
        """Mean IoU, pixel accuracy and frequency-weighted IoU (FWIoU), over all pixels and as means of videos."""
        measures: dict[str, Callable[[NDArray[np.int64]], float]] = {
            "mIoU": self._mean_iou,
            "pixel accuracy": pixel_accuracy,
            "FWIoU": frequency_weighted_iou,
        }
        pooled = {name: measure(self.total) for name, measure in measures.items()} if self.shared else {}
        matrices = [frames.sum(axis=0) for frames in self.confusion.values()]
        by_video = {f"{name} per video": float(np.mean(list(map(measure, matrices)))) for name, measure in measures.items()}
        return pooled | by_video

    @property
    def headline(self) -> tuple[str, float]:
        if self.per_video or not self.shared:
            return "mIoU per video", self.video_mean
        return "mIoU", self.pooled

    def table(self) -> str:
        """Format percentages of the means, of every class that occurs and of every video; Markdown."""
        rows = [*self.means.items(), *self._classes().items(), *self.videos.items()]
        return "| | % |\n|---|---|\n" + "\n".join(f"| {name} | {100 * value:.1f} |" for name, value in rows)

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON's types; the report shows `sequences`."""
        return {
            **self.means,
            "classes": self._classes(),
            "sequences": {
                name: {"score": score, "curve": "mIoU", "frames": list(map(self._mean_iou, self.confusion[name]))}
                for name, score in self.videos.items()
            },
        }

    def _mean_iou(self, confusion: NDArray[np.int64]) -> float:
        return float(np.nanmean(intersection_over_union(confusion)[self.first_class :]))

    def _classes(self) -> dict[str, float]:
        """Return the IoU of each class that occurs, if the videos share their classes."""
        if not self.shared:
            return {}
        return {name: iou for name, iou in zip(self.classes, self.class_ious.tolist(), strict=True) if np.isfinite(iou)}


def count_classes(
    pairs: Mapping[str, Sequence[tuple[Path, Path]]], num_classes: int
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield each video with the confusion matrices [T, C, C] of its pairs of an annotation and a prediction.

    A prediction of another size is resized to that of the annotation by the nearest pixel.

    Raises:
        ValueError: a predicted id that is no class.
    """

    def count(files: Sequence[tuple[Path, Path]]) -> NDArray[np.int64]:
        frames = []
        for annotation, path in files:
            truth, mask = (as_mask(file, empty=True).values for file in (annotation, path))
            mask = Mask(mask, "numpy", mask.dtype).resized(truth.shape, "center").values
            try:
                frames.append(confusion_matrix(truth, mask, num_classes))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        return np.stack(frames)

    with ThreadPoolExecutor() as pool:
        yield from zip(pairs, pool.map(count, pairs.values()), strict=True)
