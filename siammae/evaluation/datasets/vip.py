"""VIP: human parts, propagated through a video and scored by mean intersection over union.

The semantic annotations (`Category_ids`) of the 50 validation videos of VIP (Zhou et al. 2018, "Adaptive Temporal Encoding
Network for Video Instance-level Human Parsing"), as TimeCycle, CRW and SiamMAE use them.
"""

from dataclasses import dataclass
from pathlib import Path

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, check_complete, pictures, read_names
from siammae.evaluation.iou import IouScores, count_classes

# fmt: off
CLASSES = (
    "background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks", "pants", "gloves", "scarf", "skirt",
    "torso-skin", "face", "right-arm", "left-arm", "right-leg", "left-leg", "right-shoe", "left-shoe",
)
# fmt: on


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
        """Compute mean IoU, pixel accuracy and frequency-weighted IoU of predicted part masks, one frame in memory at a time.

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
        for name, frames in count_classes(pairs, len(CLASSES)):
            confusion[name] = frames
            progress(name)
        return IouScores(confusion, CLASSES, self.per_video)
