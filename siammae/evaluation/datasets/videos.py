"""YouTube-VOS, MOSE and LVOS: masks of objects in videos that are annotated sparsely, with a meta file or without.

All have JPEGImages/VIDEO/FRAME.jpg and Annotations/VIDEO/FRAME.png. Their validation and test sets publish only the masks in
which objects appear: `inputs` finds what prediction needs, and the server scores the rest. Sets whose masks are public, such as
LVOS's validation set and all training sets, can be scored here.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siammae.evaluation.datasets.dataset import Dataset, Progress
from siammae.evaluation.datasets.sequences import (
    VOID,
    Appearance,
    MaskSequence,
    PathLike,
    check_complete,
    check_predictions,
    pictures,
    read_names,
    shortened,
)
from siammae.evaluation.regions import RegionScores
from siammae.evaluation.score_regions import ScoredSequence, score_regions
from siammae.labels.masks import as_mask

Meta = Mapping[str, Mapping[int, Mapping[str, Any]]]  # entries of a meta file by video and id


@dataclass(frozen=True)
class Video:
    """A video, and the objects that its annotations or the meta file name.

    Attributes:
        frames: pictures by name, in order.
        annotations: masks by the same names, in order.
        first: for each id the frame in which the object is given.
        counted: for each id the frames in which the object is scored, as far as they are annotated.
    """

    name: str
    frames: Mapping[str, Path]
    annotations: Mapping[str, Path]
    first: Mapping[int, str]
    counted: Mapping[int, Sequence[str]]


@dataclass(frozen=True)
class Videos(Dataset):
    """A data set of JPEGImages/VIDEO and Annotations/VIDEO; see the classes derived from it.

    Attributes:
        root: folder with JPEGImages and Annotations. Without `sequences` and `split`, all videos in Annotations.
    """

    def find(self) -> list[MaskSequence]:
        """Find the videos; every frame in which an object counts must be annotated, and there must be some in every video."""
        videos = self._videos()
        bare = [video.name for video in videos if not any(video.counted.values())]
        missing = [
            f"Annotations/{video.name}/{stem}.png"
            for video in videos
            for stem in dict.fromkeys(stem for stems in video.counted.values() for stem in stems)
            if stem not in video.annotations
        ]
        expected = "a mask of every frame that counts; if the annotations are not public, predict only and submit the masks"
        check_complete(self.root, missing + [f"Annotations/{name} after the first frame" for name in bare], expected)
        return [_sequence(video) for video in videos]

    def inputs(self) -> list[MaskSequence]:
        """Find the videos; every object must be annotated in the frame in which it appears."""
        return [_sequence(video) for video in self._videos()]

    def score(self, predictions: PathLike, *, progress: Progress = lambda name: None) -> RegionScores:
        """Compute J and F of predicted masks in the frames that count, as the class says.

        `predictions` holds a folder for each video, with a mask of the same name and size for every annotation that counts.
        """
        videos, folder = self._videos(), Path(predictions)
        sequences = {sequence.name: sequence for sequence in self.find()}
        seen = self._seen(videos)
        scored = [_scored(video, sequences[video.name].annotations, seen.get(video.name)) for video in videos]
        wanted = {one.name: [one.annotations[number] for number in one.numbers] for one in scored}
        check_predictions(
            folder,
            wanted,
            {video.name: list(video.frames.values()) for video in videos},
            "VIDEO/FRAME.png for every annotation that counts",
        )
        return score_regions(scored, folder, progress=progress)

    @abstractmethod
    def _objects(self, name: str, meta: Meta, annotations: Mapping[str, Path]) -> Mapping[int, Sequence[str]]:
        """Return for each id of a video the frame in which it is given, and then those in which it counts."""

    def _meta(self) -> Meta | None:
        """Read the objects of each video; None if the data set has no meta file."""
        return None

    def _seen(self, videos: Sequence[Video]) -> Mapping[str, Mapping[int, bool]]:
        """Return for each id of each video whether its kind is in the training set; empty if that is unknown."""
        return {}

    def _videos(self) -> list[Video]:
        """Find the videos, and check that frames, annotations and objects fit; an error names all that is wrong."""
        base = Path(self.root)
        layout = [folder for folder in ("JPEGImages", "Annotations") if not (base / folder).is_dir()]
        check_complete(base, layout, f"the layout of {self.name}: JPEGImages/VIDEO and Annotations/VIDEO")
        meta = self._meta()
        folders = [path.name for path in (base / "Annotations").iterdir() if path.is_dir()]
        names = self.wanted() or sorted({*folders, *(meta or {})})
        check_complete(base, [] if names else ["Annotations/*"], "a folder of masks for every video")
        if meta is not None and (unnamed := [name for name in names if name not in meta]):
            raise ValueError(f"{base}: the meta file does not name the videos {shortened(unnamed)}")
        videos, missing, empty = [], [], []
        for name in names:
            frames = pictures(base / "JPEGImages" / name)
            annotations = {path.stem: path for path in sorted((base / "Annotations" / name).glob("*.png"))}
            missing += [f"JPEGImages/{name}"] * (not frames) + [f"Annotations/{name}"] * (not annotations)
            if not frames or not annotations:
                continue
            try:
                objects = {label: stems for label, stems in self._objects(name, meta or {}, annotations).items() if stems}
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{base}: the objects of {name} cannot be read: {type(error).__name__} {error}") from error
            if not objects:
                empty.append(name)
                continue
            first = {label: stems[0] for label, stems in objects.items()}
            given = dict.fromkeys(first.values())
            missing += [f"JPEGImages/{name}/{stem}.jpg" for stem in {**annotations, **given} if stem not in frames]
            missing += [f"Annotations/{name}/{stem}.png" for stem in given if stem not in annotations]
            videos.append(Video(name, frames, annotations, first, {label: stems[1:] for label, stems in objects.items()}))
        check_complete(base, missing, "the frames of every annotation, and a mask wherever an object appears")
        if empty:
            raise ValueError(f"{base} marks no object in {shortened(empty)}; expected some in every video")
        _check_ids(base, videos)
        return videos


@dataclass(frozen=True)
class YoutubeVos(Videos):
    """YouTube-VOS 2018 and 2019.

    Objects may appear after the first frame. meta.json names each one's category and frames. An object counts in the annotated
    ones of these frames but the first. The headline G is the mean of J and F over objects of seen and of unseen categories (Xu
    et al. 2018); the categories of the training set are the seen ones.

    Attributes:
        root: folder such as valid, with JPEGImages, Annotations and meta.json.
        train_meta: meta.json of the training set; None takes ROOT/../train/meta.json if it is there. Without it, the headline
            is J&F over all objects.
    """

    train_meta: PathLike | None = None

    name = "youtube-vos"
    rule = "annotated frames after each object's first, means over objects"
    submission_folder = "Annotations"

    def _objects(self, name: str, meta: Meta, annotations: Mapping[str, Path]) -> Mapping[int, Sequence[str]]:
        return {label: sorted(map(str, entry["frames"])) for label, entry in meta[name].items()}

    def _seen(self, videos: Sequence[Video]) -> Mapping[str, Mapping[int, bool]]:
        path = Path(self.root).resolve().parent / "train" / "meta.json" if self.train_meta is None else Path(self.train_meta)
        if self.train_meta is None and not path.is_file():
            return {}
        train = read_meta(path, ("category",))
        categories = {entry["category"] for objects in train.values() for entry in objects.values()}
        own = read_meta(Path(self.root) / "meta.json", ("category",))
        return {
            video.name: {label: entry["category"] in categories for label, entry in own[video.name].items()} for video in videos
        }

    def _meta(self) -> Meta:
        return read_meta(Path(self.root) / "meta.json", ("frames",))


@dataclass(frozen=True)
class Mose(Videos):
    """MOSE: crowded scenes. The first annotation gives all objects; the first and the last frame do not count, as in DAVIS."""

    name = "mose"
    rule = "first and last frame dropped, means over objects"

    def _objects(self, name: str, meta: Meta, annotations: Mapping[str, Path]) -> Mapping[int, Sequence[str]]:
        stems = list(annotations)
        return {label: [stems[0], *stems[1:-1]] for label in _ids(annotations[stems[0]])}


@dataclass(frozen=True)
class Lvos(Videos):
    """LVOS v1 and v2: long videos, annotated at every fifth frame.

    A meta file, such as valid_meta.json, gives each object's range of frames. An object counts in every fifth frame of its
    range but the first and the last, as in the official lvos-evaluation. The headline G is the mean of J and F over objects of
    seen and of unseen videos.

    Attributes:
        root: folder with JPEGImages, Annotations and one file that ends in meta.json.
        unseen: text file with the videos of unseen categories, such as unseen_videos.txt of lvos-evaluation; None takes
            ROOT/unseen_videos.txt if it is there. Without it, the headline is J&F over all objects.
    """

    unseen: PathLike | None = None

    name = "lvos"
    rule = "every fifth frame of an object's range but the first and the last, means over objects"
    submission_folder = "Annotations"

    def _objects(self, name: str, meta: Meta, annotations: Mapping[str, Path]) -> Mapping[int, Sequence[str]]:
        objects = {}
        for label, entry in meta[name].items():
            start, end, count = (int(entry["frame_range"][key]) for key in ("start", "end", "frame_nums"))
            stems = [f"{number:08d}" for number in range(start, end, 5)]
            objects[label] = [stem for index, stem in enumerate(stems) if index == 0 or index != count - 1]
        return objects

    def _meta(self) -> Meta:
        files = sorted(Path(self.root).glob("*meta.json"))
        check_complete(self.root, [] if files else ["*meta.json"], "the meta file of the videos")
        return read_meta(files[0], ("frame_range",))

    def _seen(self, videos: Sequence[Video]) -> Mapping[str, Mapping[int, bool]]:
        path = Path(self.root) / "unseen_videos.txt" if self.unseen is None else Path(self.unseen)
        if self.unseen is None and not path.is_file():
            return {}
        unseen = set(read_names(path))
        return {video.name: dict.fromkeys(video.first, video.name not in unseen) for video in videos}


def _sequence(video: Video) -> MaskSequence:
    """Begin at the frame in which the first object appears, and list the objects that appear later."""
    stems = list(video.frames)
    begin = min(video.first.values(), key=stems.index)
    stems = stems[stems.index(begin) :]
    later: dict[str, list[int]] = {}
    for label, stem in video.first.items():
        if stem != begin:
            later.setdefault(stem, []).append(label)
    appearances = [
        Appearance(stems.index(stem), video.annotations[stem], tuple(later[stem])) for stem in sorted(later, key=stems.index)
    ]
    used = {*video.first.values(), *(stem for counted in video.counted.values() for stem in counted)}
    annotations = [begin, *(stem for stem in video.annotations if stem in used and stem != begin)]
    return MaskSequence(
        video.name,
        tuple(video.frames[stem] for stem in stems),
        tuple(video.annotations[stem] for stem in annotations),
        tuple(appearances),
    )


def _scored(video: Video, annotations: tuple[Path, ...], seen: Mapping[int, bool] | None) -> ScoredSequence:
    """Number the annotations, and leave out objects that count nowhere."""
    numbers = {path.stem: number for number, path in enumerate(annotations)}
    objects = {label: tuple(sorted(numbers[stem] for stem in stems)) for label, stems in video.counted.items() if stems}
    return ScoredSequence(video.name, annotations, objects, seen=seen)


def _check_ids(base: Path, videos: Sequence[Video]) -> None:
    """Raise ValueError for ids in the masks that give objects which no meta file names, and for the reverse."""
    wrong = []
    for video in videos:
        for stem in dict.fromkeys(video.first.values()):
            path, found = video.annotations[stem], _ids(video.annotations[stem])
            relative = path.relative_to(base)
            lost = [label for label, first in video.first.items() if first == stem and label not in found]
            wrong += [f"{relative} lacks ids {lost}"] * bool(lost)
            unknown = [label for label in found if label not in video.first]
            wrong += [f"{relative} has ids {unknown} that the meta file does not name"] * bool(unknown)
    if wrong:
        raise ValueError(f"{base}: {shortened(wrong)}")


def _ids(path: Path) -> list[int]:
    """List the ids of objects in a mask, without background and void."""
    return [int(label) for label in np.unique(as_mask(path, empty=True).values) if label not in (0, VOID)]


def read_meta(path: Path, keys: Sequence[str]) -> Meta:
    """Read the objects of each video, by id, each an entry that has `keys`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file.
    """
    check_complete(path.parent, [] if path.is_file() else [path.name], "the meta file of the videos")
    try:
        videos = json.loads(path.read_text())["videos"]
        return {
            name: {int(label): {key: entry[key] for key in keys} for label, entry in video["objects"].items()}
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as the objects of videos: {type(error).__name__} {error}") from error
