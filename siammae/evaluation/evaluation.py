"""Predict, then score: the predictions of a model for a whole data set as files, and the scores of the files.

The output folder holds `evaluation.json` (everything that decides the predictions), `predictions` (a folder of masks or a CSV
of keypoints for each sequence), `speed` (how long each took) and `scores.json` (the figures, computed anew from the
predictions each time).
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from tqdm import tqdm

from siammae import __version__
from siammae.encoder import Encoder
from siammae.evaluation.datasets import badja, davis, jhmdb, vip
from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, PointSequence, digest
from siammae.evaluation.predict import PREDICTIONS, SPEED, device, predict, processes, share, speed
from siammae.evaluation.protocols import find_protocol
from siammae.files import atomic, remove_drafts
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import PropagationConfig
from siammae.propagation.folder import read_record

SETTINGS_FILE, SCORES_FILE = "evaluation.json", "scores.json"


class Scores(Interface):
    """What the scores of every data set have in common."""

    @property
    def headline(self) -> tuple[str, float]: ...

    def table(self) -> str: ...

    def figures(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Dataset:
    """How the sequences of a data set are found, and predictions for them scored."""

    find: Callable[..., Sequence[MaskSequence] | Sequence[PointSequence]]
    score: Callable[..., Scores]


DATASETS = {
    "davis": Dataset(davis.find_davis, davis.score_davis),
    "vip": Dataset(vip.find_vip, vip.score_vip),
    "jhmdb": Dataset(jhmdb.find_jhmdb, jhmdb.score_jhmdb),
    "badja": Dataset(badja.find_badja, badja.score_badja),
}


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        scores: of the predictions.
        about: everything that decided them, and what they were made with.
    """

    scores: Scores
    about: dict[str, Any]

    def table(self) -> str:
        """The protocol with all its values, model, digests, versions and speed, and the table of scores; Markdown."""
        about, protocol = self.about, self.about["protocol"]
        values = ", ".join(f"{name} {value}" for name, value in about["config"].items())
        speed = about["speed"]
        lines = [
            f"{about['dataset']}: {len(about['sequences'])} sequences, data sha256 {about['data_sha256'][:16]}",
            f"protocol {protocol['name']} ({protocol['source']}), input {protocol['input']}: {values}",
            f"model {about['model']}, weights sha256 {about['weights_sha256'][:16]}, {about['dtype']}",
            f"{', '.join(f'{name} {version}' for name, version in about['versions'].items())}; {about['date']}",
            f"{speed['frames_per_second']:.2f} frames/s with reading and writing, {speed['peak_memory_mb']} MB at most, "
            f"on {about['device']}"
            if speed
            else "speed unknown: every sequence was resumed",
        ]
        return "\n".join([*lines, "", self.scores.table()])

    def write(self, path: PathLike) -> None:
        """Everything as JSON, the scores of every frame included."""
        write_scores(path, self.scores, self.about)


def write_scores(path: PathLike, scores: Scores, about: Mapping[str, Any]) -> None:
    """Scores as JSON, after what is to be told of them."""
    name, value = scores.headline
    content = {**about, "headline": {"name": name, "value": value}, **scores.figures()}
    with atomic(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n")


def evaluate(
    dataset: str,
    root: PathLike,
    out: PathLike,
    model: str | Encoder = DEFAULT_MODEL,
    *,
    protocol: str = "best",
    sequences: Sequence[str] | None = None,
    split: PathLike | None = None,
    joints: PathLike | None = None,
    size: int | tuple[int, int] | None = None,
    changes: Mapping[str, Any] | None = None,
    resized: tuple[int, int] | None = None,
    per_video: bool = False,
    resume: bool = False,
    progress: bool | None = None,
) -> Evaluation | None:
    """Carry the first labels of every sequence of a data set through it, and score the result.

    Under `torchrun` every process takes a share of the sequences, and the GPU of its local rank if the encoder is on one.

    Args:
        dataset: "davis", "vip", "jhmdb" or "badja".
        root: the data set's folder; see `find_davis`, `find_vip`, `find_jhmdb`, `find_badja`.
        out: folder for the predictions and the scores, made if missing.
        model: an Encoder, or a name for `load_model`.
        protocol: "best" (the library's default, which measures best), "dino", "crw", "cropmae" or "paper"; see
            `siammae.evaluation.protocols`.
        sequences, split: those that are evaluated; the data set's own validation or test set if not given.
        joints: of BADJA; see `find_badja`.
        size: at which the encoder sees the frames, instead of the protocol's.
        changes: single values of the protocol's config.
        resized: of DAVIS; see `score_davis`.
        per_video: of VIP; see `IouScores`.
        resume: go on where an interrupted evaluation into the same folder, with the same settings, stopped.
        progress: a progress bar; None shows one when standard error is a terminal.

    Returns:
        The scores, read from the files that were written; None in every process but the first.

    Raises:
        FileNotFoundError: files of the data set that are missing, all of them named, before any work.
        FileExistsError: `out` holds an evaluation already and `resume` is off.
        ValueError: `resume` with other settings or data than before; an option of another data set; and what
            `siammae.propagate_labels` raises.
    """
    if dataset not in DATASETS:
        raise ValueError(f"no data set is called {dataset!r}; there are {', '.join(DATASETS)}")
    find_options = _options(dataset, "badja", joints=joints)
    score_options = {**find_options, **_options(dataset, "davis", resized=resized)}
    score_options |= _options(dataset, "vip", per_video=per_video or None)
    chosen, target = find_protocol(dataset, protocol), Path(out)
    config = PropagationConfig.from_mapping({**asdict(chosen.config), **(changes or {})})
    found = DATASETS[dataset].find(root, sequences, split, **find_options)
    with processes() as (rank, world, wait):
        encoder, names = as_encoder(model), [one.name for one in found]
        if world > 1 and encoder.device.type == "cuda":
            encoder = encoder.to(f"cuda:{os.environ['LOCAL_RANK']}")
        settings = {
            "dataset": dataset,
            "root": str(Path(root).resolve()),
            "joints": None if joints is None else str(Path(joints).resolve()),
            "sequences": names,
            "data_sha256": digest(path for one in found for path in one.files),
            "protocol": {"name": chosen.name, "source": chosen.source, "input": size or chosen.input},
            "config": asdict(config),
            "model": encoder.name,
            "weights_sha256": encoder.digest(),
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "siammae": __version__,
        }
        if rank == 0:
            _open(target, json.loads(json.dumps(settings)), resume)
        wait()
        mine = share(found, rank, world)
        hidden = True if rank else None if progress is None else not progress
        with tqdm(desc=dataset, total=sum(len(one.frames) for one in mine), unit="frame", disable=hidden) as bar:
            for one in mine:
                bar.set_postfix_str(one.name)
                predict(one, target, encoder, config, chosen, size)
                bar.update(len(one.frames))
        wait()
    if rank:
        return None
    with tqdm(desc="score", total=len(found), unit="sequence", disable=hidden) as bar:
        scores = DATASETS[dataset].score(
            root,
            target / PREDICTIONS,
            sequences=names,
            progress=lambda _: bar.update(),
            **score_options,
        )
    made = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {"siammae": __version__, "Python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "timm", "numpy")},
        "device": device(encoder),
        "processes": world,
        "speed": speed(target, names),
    }
    evaluation = Evaluation(scores, settings | made)
    evaluation.write(target / SCORES_FILE)
    return evaluation


def _options(dataset: str, owner: str, **values: Any) -> dict[str, Any]:
    """Values that were given; ValueError where they belong to another data set."""
    given = {name: value for name, value in values.items() if value is not None}
    if given and dataset != owner:
        raise ValueError(f"{', '.join(given)} is an option of {owner}; leave it out for {dataset}")
    return given


def _open(folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Make the output folder ready."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds files but no {SETTINGS_FILE}; choose another folder for the evaluation")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as draft:
            draft.write_text(json.dumps(settings, indent=1) + "\n")
    elif not resume:
        raise FileExistsError(f"{folder} holds an evaluation already; choose another folder, or resume the one that it holds")
    else:
        read_record(path, settings)
    for name in (PREDICTIONS, SPEED):
        (folder / name).mkdir(exist_ok=True)
        remove_drafts(folder / name)
