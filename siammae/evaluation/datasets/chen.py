"""Chen: several labels in every pixel of short clips, scored by mean intersection over union.

The clips of xiph.org that Chen and Corso labelled ("Propagating multi-class pixel labels throughout video frames", 2010), as
the LIBSVX benchmark distributes them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, check_complete, check_predictions, pictures
from siammae.evaluation.iou import IouScores, count_classes
from siammae.labels.masks import as_mask


@dataclass(frozen=True)
class Chen(Dataset):
    """Chen's clips, or any clips of the same layout whose first frame has all labels.

    Attributes:
        root: folder with JPEGImages and Annotations, each with a folder for each clip. Without `sequences` and `split`, all
            clips.
    """

    name = "chen"
    rule = "mean IoU of the first annotation's ids in the later frames, mean of clips"
    first_scored = 1

    def find(self) -> list[MaskSequence]:
        """Find the clips; every frame must have an annotation, and there must be two or more."""
        base = Path(self.root)
        layout = [name for name in ("JPEGImages", "Annotations") if not (base / name).is_dir()]
        check_complete(base, layout, "Chen's layout, JPEGImages/CLIP and Annotations/CLIP")
        names = self.wanted() or sorted(path.name for path in (base / "Annotations").iterdir() if path.is_dir())
        check_complete(base, [] if names else ["Annotations/*"], "a folder of masks for every clip")
        clips, missing = [], []
        for name in names:
            frames, masks = pictures(base / "JPEGImages" / name), pictures(base / "Annotations" / name)
            missing += [f"{kind}/{name}" for kind, found in (("JPEGImages", frames), ("Annotations", masks)) if len(found) < 2]
            if len(frames) > 1 and len(masks) > 1:
                missing += [f"JPEGImages/{name}/{stem}.jpg" for stem in masks if stem not in frames]
                missing += [f"Annotations/{name}/{stem}.png" for stem in frames if stem not in masks]
            clips.append(MaskSequence(name, tuple(frames.values()), tuple(masks.values())))
        check_complete(base, missing, "two or more frames of every clip, and an annotation for each")
        return clips

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> IouScores:
        """Compute the mean IoU of predicted masks, one frame of a clip in memory at a time.

        Every frame counts but the first, which is given. The classes of a clip are the ids of its first annotation but 0, which
        stands for pixels without a label. Pixels without a true label do not count, nor those whose true id appears later,
        since no propagation can know it.

        `predictions` holds a folder for each clip, with a mask for every annotation but the first.
        """
        folder, clips = Path(predictions), self.find()
        wanted = {clip.name: clip.annotations[1:] for clip in clips}
        known = {clip.name: clip.annotations for clip in clips}
        check_predictions(folder, wanted, known, "CLIP/FRAME.png for every annotation but the first")
        pairs = {
            name: [(path, folder / name / f"{path.stem}.png") for path in annotations] for name, annotations in wanted.items()
        }
        ids = {clip.name: np.unique(as_mask(clip.annotations[0], empty=True).values) for clip in clips}
        num_classes = 1 + max(int(labels.max()) for labels in ids.values())
        confusion = {}
        for name, frames in count_classes(pairs, num_classes):
            others = np.setdiff1d(np.arange(1, num_classes), ids[name])
            frames[:, [0, *others]] = 0
            frames[:, :, 0] += frames[:, :, others].sum(axis=2)  # wrong, whichever of them was predicted
            frames[:, :, others] = 0
            confusion[name] = frames
            progress(name)
        return IouScores(confusion, tuple(map(str, range(num_classes))), shared=False, first_class=1)
