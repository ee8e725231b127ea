"""BADJA: joints of animals, propagated through DAVIS sequences and scored by the percentage of correct keypoints.

BADJA (Biggs et al. 2018, "Creatures Great and SMAL") marks up to 37 joints in every fifth frame or so. The first annotated
frame is given, the others are scored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import PathLike, PointSequence, check_complete, outside_frame, pictures
from siammae.evaluation.metrics import keypoint_distances
from siammae.evaluation.pck import KeypointScores, read_predictions
from siammae.labels.masks import as_mask
from siammae.video.pictures import read_image

FULL_RESOLUTION = 1080, 1920  # joints are (row, column) of pictures of this size
NUM_JOINTS = 37
JOINTS = tuple(map(str, range(NUM_JOINTS)))
THRESHOLD = 0.2  # share of the square root of the animal's area


@dataclass(frozen=True)
class Badja(Dataset):
    """BADJA: the DAVIS sequences that it annotates, each from its first annotated frame on.

    Attributes:
        root: DAVIS folder, with JPEGImages/480p and Annotations/480p. Without `sequences` and `split`, all sequences that have
            both joints and frames.
        joints: folder of SEQUENCE.json; None means ROOT/joint_annotations.
    """

    joints: PathLike | None = None

    name = "badja"
    rule = "0.2 of the square root of the animal's area"
    options = ("joints",)

    def find(self) -> list[PointSequence]:
        """Find the sequences; visible joints outside the frame do not count, unless they are most of a file's."""
        base = Path(self.root)
        folder = base / "joint_annotations" if self.joints is None else Path(self.joints)
        images = base / "JPEGImages" / "480p"
        check_complete(base, [str(path) for path in (images, folder) if not path.is_dir()], "DAVIS's layout and BADJA's joints")
        names = self.wanted() or sorted(path.stem for path in folder.glob("*.json") if (images / path.stem).is_dir())
        files = {name: folder / f"{name}.json" for name in names}
        absent = [path.name for path in files.values() if not path.is_file()] or ["*.json"] * (not files)
        check_complete(folder, absent, "SEQUENCE.json")
        sequences, missing = [], []
        for name, file in files.items():
            marked = _read(file)
            frames = pictures(images / name)
            masks = [base / "Annotations" / "480p" / name / f"{stem}.png" for stem in marked]
            lacking = [f"JPEGImages/480p/{name}/{stem}.jpg" for stem in marked if stem not in frames]
            lacking += [str(path.relative_to(base)) for path in masks if not path.is_file()]
            missing += lacking
            if not lacking:
                first = list(frames).index(next(iter(marked)))
                sequences.append(_sequence(name, file, marked, list(frames.values())[first:], masks))
        check_complete(base, missing, "the frame and the mask of every annotation")
        return sequences

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> KeypointScores:
        """Compute the PCK of predicted joints.

        A joint counts in every annotated frame but the first where it is visible, if it was in the first. It is correct if it
        is at most 0.2 times the square root of the animal's area away; a lost one is not correct. PCK is the mean over
        sequences of each one's share of correct joints. The same joints are scored at a fixed distance too: the share of
        those less than 3 pixels of the 480p frames away, as trackers report it (DINO-Tracker, Tumanyan et al. 2024).

        `predictions` holds SEQUENCE.csv for each sequence, with the columns frame, point, x, y as `siammae keypoints` writes
        them; frame 0 is the first annotated one. An annotated frame whose mask is empty is a ValueError.
        """
        distances, pixels, num_annotated = {}, {}, 0
        for sequence, tracks in read_predictions(self.find(), predictions):
            truth = np.where(np.isnan(sequence.points[:1]), np.nan, sequence.points)
            truth[0] = np.nan
            num_annotated += int(np.isfinite(sequence.points[1:]).all(axis=-1).sum())
            tracks = np.where(np.isnan(tracks), np.inf, tracks)  # lost: as far away as can be
            stems = [path.stem for path in sequence.frames]
            scale = np.ones(len(truth))
            for mask in sequence.annotations[1:]:
                scale[stems.index(mask.stem)] = np.sqrt(np.count_nonzero(as_mask(mask, empty=True).values))
            distances[sequence.name] = keypoint_distances(truth, tracks, scale)
            pixels[sequence.name] = keypoint_distances(truth, tracks, np.ones(len(truth)))
            progress(sequence.name)
        return KeypointScores(distances, JOINTS, THRESHOLD, "sequences", num_annotated, pixels)

    def record(self) -> dict[str, Any]:
        return super().record() | {"joints": None if self.joints is None else str(Path(self.joints).resolve())}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Read the annotations of a sequence, in the order of its frames, by the frame's name."""
    try:
        entries = json.loads(path.read_text())
        marked = {Path(entry["image_path"]).stem: entry for entry in entries}
        shapes = {(np.shape(entry["joints"]), np.shape(entry["visibility"])) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as BADJA's annotations: {type(error).__name__} {error}") from error
    if shapes != {((NUM_JOINTS, 2), (NUM_JOINTS,))}:
        raise ValueError(f"{path} holds joints and visibilities of shapes {sorted(shapes)}; expected {NUM_JOINTS} of each")
    return dict(sorted(marked.items()))


def _sequence(
    name: str, file: Path, marked: dict[str, dict[str, Any]], frames: Sequence[Path], masks: Sequence[Path]
) -> PointSequence:
    """Scale the joints to the frames' own pixels, NaN where they are not visible or outside the frame."""
    width, height = read_image(frames[0]).size
    scale = np.array([width / FULL_RESOLUTION[1], height / FULL_RESOLUTION[0]])
    points: NDArray[np.float64] = np.full((len(frames), NUM_JOINTS, 2), np.nan)
    for index, frame in enumerate(frames):
        if frame.stem in marked:
            entry = marked[frame.stem]
            places = (np.asarray(entry["joints"], dtype=float)[:, ::-1] + 0.5) * scale - 0.5
            points[index] = np.where(np.asarray(entry["visibility"], dtype=bool)[:, None], places, np.nan)
    marked_joints, outside = np.isfinite(points).all(axis=-1), outside_frame(points, (height, width))
    if 2 * np.count_nonzero(outside) > np.count_nonzero(marked_joints):
        raise ValueError(
            f"{file} has {np.count_nonzero(outside)} of {np.count_nonzero(marked_joints)} joints outside the frame; expected "
            f"(row, column) of {FULL_RESOLUTION[0]} x {FULL_RESOLUTION[1]} pixels"
        )
    points[outside] = np.nan
    return PointSequence(name, tuple(frames), (file, *masks), points)
