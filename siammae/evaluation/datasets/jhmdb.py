"""JHMDB: body joints, propagated through a video and scored by the percentage of correct keypoints.

The 268 test videos of split 1 of JHMDB (Jhuang et al. 2013, "Towards understanding action recognition"), as TimeCycle, CRW and
SiamMAE use them: the 15 joints of the first frame are given.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import PathLike, PointSequence, check_complete, outside_frame, pictures
from siammae.evaluation.metrics import keypoint_distances
from siammae.evaluation.pck import KeypointScores, read_predictions
from siammae.video.pictures import read_image

# fmt: off
JOINTS = (
    "neck", "belly", "face", "right-shoulder", "left-shoulder", "right-hip", "left-hip", "right-elbow", "left-elbow",
    "right-knee", "left-knee", "right-wrist", "left-wrist", "right-ankle", "left-ankle",
)
# fmt: on
BOX_SHARE = 0.6  # the unit of distance is this share of the diagonal of the box around the joints
TEST = "2"  # in the split files; 1 is training


@dataclass(frozen=True)
class Jhmdb(Dataset):
    """JHMDB's test videos.

    Attributes:
        root: folder with Rename_Images/CLASS/VIDEO/00001.png ..., joint_positions/CLASS/VIDEO/joint_positions.mat and
            splits/CLASS_test_split1.txt ..., as the data set's archives unpack. The files of split 1 name the test videos
            without `sequences` and `split`.
    """

    name = "jhmdb"
    rule = "units of 0.6 of the diagonal of the box around the joints"

    def find(self) -> list[PointSequence]:
        """Find the videos; none may have joints of more frames than there are."""
        base = Path(self.root)
        images, positions = base / "Rename_Images", base / "joint_positions"
        check_complete(base, [path.name for path in (images, positions) if not path.is_dir()], "JHMDB's layout")
        names = self.wanted() or _test_set(base / "splits")
        homes = {path.name: path.relative_to(positions) for path in positions.glob("*/*")}
        joints = {name: positions / homes.get(name, Path("*", name)) / "joint_positions.mat" for name in names}
        frames = {name: tuple(pictures(images / homes.get(name, Path("*", name))).values()) for name in names}
        missing = [str(path.relative_to(base)) for path in joints.values() if not path.is_file()]
        missing += [f"Rename_Images/{homes[name]}" for name, paths in frames.items() if name in homes and not paths]
        check_complete(base, missing, "the joints and the frames of every video")
        sequences = []
        for name in names:
            points = _joints(joints[name])
            if len(points) > len(frames[name]):
                raise ValueError(f"{joints[name]} has {len(points)} frames; {images / homes[name]} has {len(frames[name])}")
            sequences.append(PointSequence(name, frames[name], (joints[name],), points))
        return sequences

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> KeypointScores:
        """Compute the PCK of predicted joints.

        A joint is correct if it is at most a threshold away, in units of 0.6 times the diagonal of the box around the frame's
        true joints. PCK is the mean over the 15 joints of each one's share of correct predictions. The first frame does not
        count; nor, as in the scripts, does a joint that the prediction has lost, neither for PCK nor for the box. Leaving hard
        joints out would thus raise the score: if the prediction lost joints that lay in the first picture, a warning says how
        many, and the scores hold the PCK that counts them as wrong too. Where the joints that count have no box, since they
        share one place, all are wrong.

        JHMDB has joints outside the picture. Where one lies outside the first frame there is nothing to propagate: `evaluate`
        does not give it, so that it is lost in the whole video and does not count. The scripts' point maps, those of the
        protocols "crw", "cropmae" and "paper", still draw a joint less than two cells outside, and so does `evaluate` under
        these. A joint that leaves later counts at its annotated place.

        `predictions` holds VIDEO.csv for each video, with the columns frame, point, x, y as `siammae keypoints` writes them.

        Source: eval_pck.py in CRW's and CropMAE's repositories.
        """
        distances, lost, num_annotated = {}, {}, 0
        for video, tracks in read_predictions(self.find(), predictions):
            missing = np.asarray(np.isnan(tracks).any(axis=-1))  # [T, K]
            visible = np.where(missing[..., None], np.nan, video.points)
            tracks[0] = np.nan
            annotated = np.asarray(np.isfinite(video.points).all(axis=-1))  # [T, K]
            num_annotated += int(annotated[1:].sum())
            unit = BOX_SHARE * _diagonals(visible)
            scaled = keypoint_distances(video.points, tracks, np.where(unit == 0, 1, unit))
            scaled[(unit == 0)[:, None] & ~np.isnan(scaled)] = np.inf
            distances[video.name] = scaled
            if missing[1:].any():
                frame = read_image(video.frames[0])
                given = ~outside_frame(video.points[0], (frame.height, frame.width))
                lost[video.name] = missing & annotated & given
                lost[video.name][0] = False
            progress(video.name)
        scores = KeypointScores(distances, JOINTS, 0.1, "joints", num_annotated, lost=lost)
        if scores.num_lost:
            name, wrong = scores.headline[0], 100 * scores.with_lost.pck(scores.threshold)
            warnings.warn(
                f"{scores.num_lost} joints that lay in the first picture are lost in the prediction and do not count, as in "
                f"the published script; if they counted as wrong, {name} would be {wrong:.1f} %",
                stacklevel=2,
            )
        return scores


def _test_set(folder: Path) -> list[str]:
    """List the videos that the files of split 1 mark as test, class by class."""
    files = sorted(folder.glob("*_test_split1.txt"))
    check_complete(folder.parent, [] if files else ["splits/*_test_split1.txt"], "the data set's split files")
    names = []
    for file in files:
        for line in file.read_text().splitlines():
            fields = line.split()
            if len(fields) == 2 and fields[1] == TEST:
                names.append(re.sub(r"\.avi$", "", fields[0]))
    if not names:
        raise ValueError(f"{folder} marks no video as test; expected lines such as 'VIDEO.avi {TEST}'")
    return names


def _joints(path: Path) -> NDArray[np.float64]:
    """Read joint_positions.mat: (x, y) in pixels, counted from 0, [T, 15, 2]."""
    try:
        from scipy.io import loadmat, matlab
    except ImportError as error:
        raise ImportError(
            f'JHMDB\'s joints are MATLAB files; install scipy to read them: pip install "siammae[eval]" ({error})'
        ) from error
    try:
        positions = np.asarray(loadmat(path)["pos_img"], dtype=np.float64)  # [2, 15, T], MATLAB counts from 1
    except (KeyError, ValueError, TypeError, NotImplementedError, matlab.MatReadError) as error:
        raise ValueError(f"{path} cannot be read as JHMDB's joints, pos_img [2, 15, T]: {error}") from error
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JOINTS)):
        raise ValueError(f"{path} holds pos_img {list(positions.shape)}; expected [2, {len(JOINTS)}, T]")
    return np.moveaxis(positions, 0, -1).swapaxes(0, 1) - 1


def _diagonals(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the diagonals [T] of the boxes around points [T, K, 2], without those that are NaN; NaN without points."""
    known = np.isfinite(points)
    low = np.where(known, points, np.inf).min(axis=1)
    high = np.where(known, points, -np.inf).max(axis=1)
    diagonals: NDArray[np.float64] = np.linalg.norm(np.where(np.isfinite(high - low), high - low, np.nan), axis=-1)
    return diagonals
