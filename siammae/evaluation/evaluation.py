"""Evaluation of a model on a data set: predictions as files, then scores of these files.

The output folder holds `evaluation.json` (everything that decides the predictions), `predictions` (a folder of masks or a CSV
file of keypoints for each sequence), `speed` (how long each took) and `scores.json` (the figures, computed from the predictions
at every call). Predictions for a server are packed into `submission.zip` instead.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

from tqdm import tqdm

from siammae import __version__
from siammae.encoder import Encoder
from siammae.evaluation.datasets import Dataset, Scores
from siammae.evaluation.datasets.dataset import Sequences
from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, digest
from siammae.evaluation.predict import PREDICTIONS, SPEED, device, predict, processes, share, speed
from siammae.evaluation.protocols import find_protocol
from siammae.evaluation.submission import write_submission
from siammae.files import atomic, remove_drafts
from siammae.geometry import InputSize
from siammae.models.load import as_encoder
from siammae.models.registry import DEFAULT_MODEL
from siammae.propagation.config import as_config
from siammae.propagation.folder import read_record

SETTINGS_FILE, SCORES_FILE, SUBMISSION_FILE = "evaluation.json", "scores.json", "submission.zip"


class Options(TypedDict, total=False):
    """Options of an evaluation.

    Attributes:
        protocol: "best" (the model's own settings), "dino", "crw", "cropmae" or "paper"; see
            `siammae.evaluation.protocols`.
        size: size at which the encoder sees the frames, instead of the protocol's.
        changes: single values of the protocol's config.
        resume: continue an interrupted evaluation in the same folder, with the same settings.
        progress: show a progress bar; None shows it if standard error is a terminal.
    """

    protocol: str
    size: InputSize
    changes: Mapping[str, Any] | None
    resume: bool
    progress: bool | None


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        scores: scores of the predictions.
        about: everything that decided the predictions, and the circumstances in which they were made.
    """

    scores: Scores
    about: dict[str, Any]

    def table(self) -> str:
        """Format the protocol with all its values, model, digests, versions, speed, and the table of scores; Markdown."""
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
        """Write everything as JSON, the scores of every frame included."""
        write_scores(path, self.scores, self.about)


def write_scores(path: PathLike, scores: Scores, about: Mapping[str, Any]) -> None:
    """Write scores as JSON, after the facts `about` them."""
    name, value = scores.headline
    content = {**about, "headline": {"name": name, "value": value}, **scores.figures()}
    with atomic(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n")


Find = Callable[[], Sequences]


class Prediction(NamedTuple):
    """The sequences of predictions that are complete, their settings and their circumstances."""

    sequences: Sequences
    settings: dict[str, Any]
    circumstances: dict[str, Any]


def evaluate(
    dataset: Dataset, out: PathLike, model: str | Encoder = DEFAULT_MODEL, **options: Unpack[Options]
) -> Evaluation | None:
    """Propagate the first labels of every sequence of a data set, and score the result.

    Under `torchrun` every process takes a share of the sequences, and the GPU of its local rank if the encoder is on one.

    Args:
        dataset: `Davis(root)`, `Vip(root)` or another data set, with its own options.
        out: folder for the predictions and the scores, made if missing.
        model: an Encoder, or a name for `load_model`.
        options: see `Options`.

    Returns:
        The scores, read from the files that were written; None in every process but the first.

    Raises:
        FileNotFoundError: files of the data set that are missing, all of them named, before any work.
        FileExistsError: `out` holds an evaluation already and `resume` is off.
        ValueError: `resume` with other settings or data than before; and what `siammae.propagate_labels` raises.
    """
    prediction = _predict(dataset, lambda: dataset.find(), Path(out), model, **options)
    if prediction is None:
        return None
    hidden = None if options.get("progress") is None else not options.get("progress")
    with tqdm(desc="score", total=len(prediction.sequences), unit="sequence", disable=hidden) as bar:
        scores = dataset.score(Path(out) / PREDICTIONS, progress=lambda _: bar.update())
    evaluation = Evaluation(scores, prediction.settings | prediction.circumstances)
    evaluation.write(Path(out) / SCORES_FILE)
    dataset.export(scores, Path(out))
    return evaluation


def predict_only(
    dataset: Dataset, out: PathLike, model: str | Encoder = DEFAULT_MODEL, **options: Unpack[Options]
) -> Path | None:
    """Propagate the first labels of every sequence, and pack the masks as the data set's server expects a submission.

    Annotations of the frames in which objects appear are enough.

    Args:
        dataset, out, model, options: see `evaluate`; the data set is one of masks.

    Returns:
        The path of OUT/submission.zip; None in every process but the first.

    Raises:
        ValueError: a data set of keypoints; and what `evaluate` raises.
        FileNotFoundError, FileExistsError: see `evaluate`.
    """

    def find() -> Sequence[MaskSequence]:
        sequences = [sequence for sequence in dataset.inputs() if isinstance(sequence, MaskSequence)]
        if not sequences:
            raise ValueError(f"{dataset.name} has keypoints, for which no server takes files; expected a data set of masks")
        return sequences

    prediction = _predict(dataset, find, Path(out), model, **options)
    if prediction is None:
        return None
    masks = [sequence for sequence in prediction.sequences if isinstance(sequence, MaskSequence)]
    return write_submission(masks, Path(out) / PREDICTIONS, Path(out) / SUBMISSION_FILE, dataset.submission_folder)


def _predict(
    dataset: Dataset,
    find: Find,
    target: Path,
    model: str | Encoder,
    *,
    protocol: str = "best",
    size: InputSize = None,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Prediction | None:
    """Write the predictions of all sequences; None in every process but the first."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"the data set is {dataset!r}; expected an object such as siammae.evaluation.Davis(root)")
    rules = find_protocol(dataset.name, protocol)
    values = {**(asdict(rules.config) if rules.config else rules.changes), **(changes or {})}
    as_config(values)  # errors come before the model is loaded
    sequences = find()
    names = [sequence.name for sequence in sequences]
    with processes() as (rank, world, wait):
        encoder = as_encoder(model)
        if rules.config is not None:
            encoder = encoder.exact()  # a published protocol gives the same masks on every CPU
        config = as_config(values, encoder)
        if world > 1 and encoder.device.type == "cuda":
            encoder = encoder.to(f"cuda:{os.environ['LOCAL_RANK']}")
        settings = {
            **dataset.record(),
            "sequences": names,
            "data_sha256": digest(dict.fromkeys(path for sequence in sequences for path in sequence.files)),
            "protocol": {"name": rules.name, "source": rules.source, "input": size or rules.input},
            "config": asdict(config),
            "model": encoder.name,
            "weights_sha256": encoder.digest(),
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "products": str(encoder.multiplies).removeprefix("torch."),
            "runtime": encoder.runtime.name if encoder.runtime else "torch",
            "siammae": __version__,
        }
        if rank == 0:
            _open(target, json.loads(json.dumps(settings)), resume)
        wait()
        own = share(sequences, rank, world)
        hidden = True if rank else None if progress is None else not progress
        with tqdm(desc=dataset.name, total=sum(sequence.num_frames for sequence in own), unit="frame", disable=hidden) as bar:
            for sequence in own:
                bar.set_postfix_str(sequence.name)
                predict(sequence, target, encoder, config, rules, size)
                bar.update(sequence.num_frames)
        wait()
    if rank:
        return None
    circumstances = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {"siammae": __version__, "Python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "timm", "numpy")},
        "device": device(encoder),
        "processes": world,
        "speed": speed(target, names),
    }
    return Prediction(sequences, settings, circumstances)


def _open(folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Prepare the output folder, or check that its evaluation can be resumed."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds files but no {SETTINGS_FILE}; choose another folder for the evaluation")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as draft:
            draft.write_text(json.dumps(settings, indent=1) + "\n")
    elif not resume:
        raise FileExistsError(f"{folder} holds an evaluation already; choose another folder, or resume that one")
    else:
        read_record(path, settings)
    for name in (PREDICTIONS, SPEED):
        (folder / name).mkdir(exist_ok=True)
        remove_drafts(folder / name)
