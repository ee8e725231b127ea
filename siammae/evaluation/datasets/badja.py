"""BADJA: joints of animals carried through DAVIS sequences, scored by the percentage of correct keypoints.

BADJA (Biggs et al. 2018, "Creatures Great and SMAL") marks up to 37 joints in every fifth frame or so. The first annotated
frame is given; the others are scored.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siammae.evaluation.datasets.sequences import PathLike, PointSequence, check_complete, pictures, wanted
from siammae.evaluation.metrics import keypoint_distances
from siammae.evaluation.pck import KeypointScores, predictions
from siammae.labels.masks import as_mask
from siammae.video.pictures import read_image

FULL_RESOLUTION = 1080, 1920  # in whose pixels (row, column) the joints are
NUM_JOINTS = 37
JOINTS = tuple(map(str, range(NUM_JOINTS)))
THRESHOLD = 0.2  # of the square root of the animal's area


def find_badja(
    root: PathLike,
    sequences: Sequence[str] | None = None,
    split: PathLike | None = None,
    *,
    joints: PathLike | None = None,
) -> list[PointSequence]:
    """The DAVIS sequences that BADJA annotates, from each one's first annotated frame on.

    Args:
        root: a DAVIS folder, with JPEGImages/480p and Annotations/480p.
        sequences: those that are wanted.
        split: a text file that names them. If neither is given, those that there are joints and frames of.
        joints: the folder of SEQUENCE.json; ROOT/joint_annotations if not given.

    Raises:
        FileNotFoundError: another layout; annotated frames or their masks that are missing, all of them named.
        ValueError: joints that cannot be read or lie outside the frame.
    """
    base, folder = Path(root), Path(joints) if joints is not None else Path(root) / "joint_annotations"
    images = base / "JPEGImages" / "480p"
    check_complete(base, [str(path) for path in (images, folder) if not path.is_dir()], "DAVIS's layout and BADJA's joints")
    names = wanted(sequences, split) or sorted(path.stem for path in folder.glob("*.json") if (images / path.stem).is_dir())
    files = {name: folder / f"{name}.json" for name in names}
    check_complete(
        folder, [path.name for path in files.values() if not path.is_file()] or ["*.json"] * (not files), "SEQUENCE.json"
    )
    found, missing = [], []
    for name, file in files.items():
        marked = _read(file)
        frames = pictures(images / name)
        masks = [base / "Annotations" / "480p" / name / f"{stem}.png" for stem in marked]
        lacking = [f"JPEGImages/480p/{name}/{stem}.jpg" for stem in marked if stem not in frames]
        lacking += [str(path.relative_to(base)) for path in masks if not path.is_file()]
        missing += lacking
        if not lacking:
            first = list(frames).index(next(iter(marked)))
            found.append(_sequence(name, file, marked, list(frames.values())[first:], masks))
    check_complete(base, missing, "the frame and the mask of every annotation")
    return found


def score_badja(
    root: PathLike,
    pred: PathLike,
    *,
    sequences: Sequence[str] | None = None,
    split: PathLike | None = None,
    joints: PathLike | None = None,
    progress: Callable[[str], object] = lambda sequence: None,
) -> KeypointScores:
    """PCK of the joints in `pred`.

    A joint counts in every annotated frame but the first where it is visible, if it was in the first. It is correct if it is at
    most 0.2 times the square root of the animal's area away; a lost one is not correct. PCK is the mean over sequences of each
    one's share of correct joints.

    Args:
        root, sequences, split, joints: see `find_badja`.
        pred: a folder of one SEQUENCE.csv for each sequence, with the columns frame, point, x, y as `siammae keypoints` writes
            them; frame 0 is the first annotated one.
        progress: called with the name of each sequence when it is done.

    Raises:
        FileNotFoundError: files that are missing, all of them named.
        ValueError: a file with other frames or points; an annotated frame whose mask is empty.
    """
    found = find_badja(root, sequences, split, joints=joints)
    distances = {}
    for one, tracks in predictions(found, pred):
        truth = np.where(np.isnan(one.points[:1]), np.nan, one.points)
        truth[0] = np.nan
        tracks = np.where(np.isnan(tracks), np.inf, tracks)  # lost: as far away as can be
        stems = [path.stem for path in one.frames]
        scale = np.ones(len(truth))
        for mask in one.annotations[1:]:
            scale[stems.index(mask.stem)] = np.sqrt(np.count_nonzero(as_mask(mask, empty=True).values))
        distances[one.name] = keypoint_distances(truth, tracks, scale)
        progress(one.name)
    return KeypointScores(distances, JOINTS, THRESHOLD, "sequences")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Annotations of a sequence in the order of its frames, by the frame's name."""
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
    width, height = read_image(frames[0]).size
    scale = np.array([width / FULL_RESOLUTION[1], height / FULL_RESOLUTION[0]])
    points: NDArray[np.float64] = np.full((len(frames), NUM_JOINTS, 2), np.nan)
    for index, frame in enumerate(frames):
        if frame.stem in marked:
            entry = marked[frame.stem]
            places = (np.asarray(entry["joints"], dtype=float)[:, ::-1] + 0.5) * scale - 0.5
            points[index] = np.where(np.asarray(entry["visibility"], dtype=bool)[:, None], places, np.nan)
    if np.any(points < -0.5) or np.any(points > np.array([width, height]) - 0.5):
        raise ValueError(
            f"{file} has joints outside the frame; expected (row, column) of {FULL_RESOLUTION[0]} x {FULL_RESOLUTION[1]} pixels"
        )
    return PointSequence(name, tuple(frames), (file, *masks), points)
