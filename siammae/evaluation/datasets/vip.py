"""VIP: human parts, propagated through a video and scored by mean intersection over union.

The semantic annotations (`Category_ids`) of the 50 validation videos of VIP (Zhou et al. 2018, "Adaptive Temporal Encoding
Network for Video Instance-level Human Parsing"), as TimeCycle, CRW and SiamMAE use them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, check_complete, pictures, read_names
from siammae.evaluation.metrics import confusion_matrix, intersection_over_union
from siammae.labels.masks import Mask, as_mask

# fmt: off
CLASSES = (
    "background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks", "pants", "gloves", "scarf", "skirt",
    "torso-skin", "face", "right-arm", "left-arm", "right-leg", "left-leg", "right-shoe", "left-shoe",
)
# fmt: on


@dataclass(frozen=True)
class IouScores:
    """Scores of a set of videos.

    Attributes:
        confusion: for each video, confusion matrices [T, 20, 20] of its T annotated frames, the first included.
        per_video: see `Vip`.
    """

    confusion: dict[str, NDArray[np.int64]]
    per_video: bool = False

    @property
    def classes(self) -> NDArray[np.float64]:
        """IoU of each class over all pixels of all videos, [20]; NaN for one that never occurs."""
        return intersection_over_union(sum(frames.sum(axis=0) for frames in self.confusion.values()))

    @property
    def pooled(self) -> float:
        """Mean IoU of the classes over all pixels of all videos, as CRW's and CropMAE's scripts compute it."""
        return float(np.nanmean(self.classes))

    @property
    def videos(self) -> dict[str, float]:
        """Mean IoU of each video alone."""
        return {name: _mean_iou(frames.sum(axis=0)) for name, frames in self.confusion.items()}

    @property
    def video_mean(self) -> float:
        """Mean over videos of each one's mean IoU."""
        return float(np.mean(list(self.videos.values())))

    @property
    def headline(self) -> tuple[str, float]:
        if self.per_video:
            return "mIoU per video", self.video_mean
        return "mIoU", self.pooled

    def table(self) -> str:
        """Format percentages of both means, of every class that occurs and of every video; Markdown."""
        rows = [("mIoU, all pixels", self.pooled), ("mIoU, mean of videos", self.video_mean)]
        rows += [(name, iou) for name, iou in zip(CLASSES, self.classes, strict=True) if np.isfinite(iou)]
        rows += self.videos.items()
        return "| | IoU |\n|---|---|\n" + "\n".join(f"| {name} | {100 * iou:.1f} |" for name, iou in rows)

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON's types; the report shows `sequences`."""
        return {
            "mIoU": self.pooled,
            "mIoU per video": self.video_mean,
            "classes": {name: iou for name, iou in zip(CLASSES, self.classes.tolist(), strict=True) if np.isfinite(iou)},
            "sequences": {
                name: {"score": score, "curve": "mIoU", "frames": list(map(_mean_iou, self.confusion[name]))}
                for name, score in self.videos.items()
            },
        }


@dataclass(frozen=True)
class Vip(Dataset):
    """VIP's validation videos.

    Attributes:
        root: folder VIP_Fine with Images and Annotations/Category_ids, each with a folder for each video, and
            lists/val_videos.txt, which names the videos without `sequences` and `split`.
        per_video: the headline is the mean over videos of each one's mean IoU, not that of all their pixels together.
    """

    per_video: bool = False

    name = "vip"
    rule = "20 classes, first frame included"

    def find(self) -> list[MaskSequence]:
        """Find the videos; the first frame of each must have an annotation."""
        base = Path(self.root)
        images, masks = base / "Images", base / "Annotations" / "Category_ids"
        layout = [str(path.relative_to(base)) for path in (images, masks) if not path.is_dir()]
        check_complete(base, layout, "VIP_Fine's layout")
        sequences, missing = [], []
        for name in self.wanted() or read_names(base / "lists" / "val_videos.txt"):
            frames, annotations = pictures(images / name), pictures(masks / name)
            missing += [f"Annotations/Category_ids/{name}"] * (not annotations)
            missing += [f"Images/{name}/{stem}.jpg" for stem in annotations if stem not in frames]
            missing += [f"Annotations/Category_ids/{name}/{stem}.png" for stem in list(frames)[:1] if stem not in annotations]
            sequences.append(MaskSequence(name, tuple(frames.values()), tuple(annotations.values())))
        check_complete(base, missing, "annotations of every video, one of them of its first frame, and the frames to them")
        return sequences

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> IouScores:
        """Compute the mean IoU of predicted part masks, one frame of a video in memory at a time.

        `predictions` holds a folder for each video, with a mask for every annotation, the first included. Masks of another
        size are resized to that of the annotation by the nearest pixel; ids that are no class are a ValueError.

        Source: the evaluation of VIP in CRW's and CropMAE's repositories.
        """
        folder = Path(predictions)
        pairs = {
            video.name: [(path, folder / video.name / f"{path.stem}.png") for path in video.annotations]
            for video in self.find()
        }
        missing = [f"{name}/{mask.name}" for name, files in pairs.items() for _, mask in files if not mask.is_file()]
        check_complete(folder, missing, "VIDEO/FRAME.png for every annotation, the first included")
        confusion = {}
        with ThreadPoolExecutor() as pool:
            for name, frames in zip(pairs, pool.map(_confusion, pairs.values()), strict=True):
                confusion[name] = frames
                progress(name)
        return IouScores(confusion, self.per_video)


def _confusion(pairs: Sequence[tuple[Path, Path]]) -> NDArray[np.int64]:
    """Count the pixels of each pair of classes in a video's annotations and masks: [T, 20, 20]."""
    frames = []
    for annotation, path in pairs:
        truth, mask = (as_mask(file, empty=True).values for file in (annotation, path))
        mask = Mask(mask, "numpy", mask.dtype).resized(truth.shape, "center").values
        try:
            frames.append(confusion_matrix(truth, mask, len(CLASSES)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return np.stack(frames)


def _mean_iou(confusion: NDArray[np.int64]) -> float:
    return float(np.nanmean(intersection_over_union(confusion)))
