"""The commands `siammae score`: score predicted labels."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from siammae.cli.checks import CheckedApp
from siammae.cli.evaluate import Queries, Resolution, Root, Size
from siammae.cli.options import Json, print_json

if TYPE_CHECKING:
    from siammae.evaluation.datasets import Dataset, Scores

score_app = CheckedApp()
Pred = Annotated[Positional[Path], arg(metavar="PRED")]


@dataclass(frozen=True)
class ScoreOptions:
    """The options of every scoring."""

    sequences: tuple[str, ...] = ()
    """Sequences to score; the data set's own validation or test set if neither they nor a split are given."""
    split: Path | None = None
    """Text file with a sequence in each line."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """JSON file for all figures."""
    as_json: Json = False


Options = Annotated[ScoreOptions, arg(name="")]


@score_app.register(name="davis")
def score_davis(
    gt: Annotated[Positional[Path], arg(metavar="GT")],
    pred: Pred,
    options: Options,
    resized: Size = None,
    resolution: Resolution = "480p",
    csv: Path | None = None,
) -> None:
    """Score predicted masks for DAVIS 2016 or 2017, as the official davis2017-evaluation does.

    Example: siammae score davis DAVIS predictions -o scores.json

    Args:
        gt: Data set, with Annotations/480p in it, or a folder of one folder of PNG masks for each sequence.
        pred: Folder or ZIP file of one folder for each sequence, with PNG masks named like the annotations.
        resized: Height and width to score at too, such as 480 880, where some papers report their scores.
        resolution: Folder of annotations to use.
        csv: Folder for the official tool's tables, global_results-val.csv and per-sequence_results-val.csv.
    """
    from siammae.evaluation import Davis
    from siammae.evaluation.submission import open_predictions

    dataset = Davis(gt, options.sequences, options.split, resized, resolution)
    with open_predictions(pred) as folder:
        scores = _score(dataset, folder, options)
        gt_sha256, pred_sha256 = dataset.digests(folder)
    about = {"gt": {"path": str(gt), "sha256": gt_sha256}, "pred": {"path": str(pred), "sha256": pred_sha256}}
    _report(dataset, scores, options, **about)
    if csv is not None:
        csv.mkdir(parents=True, exist_ok=True)
        tables = ", ".join(map(str, dataset.export(scores, csv)))
        print(f"tables: {tables}", file=sys.stderr if options.as_json else sys.stdout)


@score_app.register(name="youtube-vos")
def score_youtube_vos(root: Root, pred: Pred, options: Options, train_meta: Path | None = None) -> None:
    """Score predicted masks for YouTube-VOS, where its annotations are public.

    Example: siammae score youtube-vos YouTubeVOS/train predictions

    Args:
        root: Folder with JPEGImages, Annotations and meta.json.
        pred: Folder or ZIP file of one folder for each video, with PNG masks named like the frames.
        train_meta: Training set's meta.json, which tells the seen categories; ROOT/../train/meta.json if not given.
    """
    from siammae.evaluation import YoutubeVos

    _score_folder(YoutubeVos(root, options.sequences, options.split, train_meta), pred, options)


@score_app.register(name="mose")
def score_mose(root: Root, pred: Pred, options: Options) -> None:
    """Score predicted masks for MOSE, where its annotations are public.

    Example: siammae score mose MOSE/train predictions --split mine.txt

    Args:
        root: Folder with JPEGImages and Annotations.
        pred: Folder or ZIP file of one folder for each video, with PNG masks named like the frames.
    """
    from siammae.evaluation import Mose

    _score_folder(Mose(root, options.sequences, options.split), pred, options)


@score_app.register(name="lvos")
def score_lvos(root: Root, pred: Pred, options: Options, unseen: Path | None = None) -> None:
    """Score predicted masks for LVOS, as the official lvos-evaluation does.

    Example: siammae score lvos LVOS/valid predictions --unseen unseen_videos.txt

    Args:
        root: Folder with JPEGImages, Annotations and a file that ends in meta.json.
        pred: Folder or ZIP file of one folder for each video, with PNG masks named like the frames.
        unseen: Text file with the videos of unseen categories; ROOT/unseen_videos.txt if not given.
    """
    from siammae.evaluation import Lvos

    _score_folder(Lvos(root, options.sequences, options.split, unseen), pred, options)


@score_app.register(name="chen")
def score_chen(root: Root, pred: Pred, options: Options) -> None:
    """Score predicted masks for Chen's clips.

    Example: siammae score chen CHEN predictions

    Args:
        root: Folder with JPEGImages and Annotations, each with a folder for each clip.
        pred: Folder or ZIP file of one folder for each clip, with PNG masks named like the frames.
    """
    from siammae.evaluation import Chen

    _score_folder(Chen(root, options.sequences, options.split), pred, options)


@score_app.register(name="vip")
def score_vip(root: Root, pred: Pred, options: Options, per_video: bool = False) -> None:
    """Score predicted part masks for VIP.

    Example: siammae score vip VIP/VIP_Fine predictions

    Args:
        root: Folder with Images, Annotations/Category_ids and lists.
        pred: Folder or ZIP file of one folder for each video, with PNG masks of class ids named like the annotations.
        per_video: Average the mean IoU of each video, instead of taking it over all pixels.
    """
    from siammae.evaluation import Vip

    _score_folder(Vip(root, options.sequences, options.split, per_video=per_video), pred, options)


@score_app.register(name="jhmdb")
def score_jhmdb(root: Root, pred: Pred, options: Options) -> None:
    """Score predicted joints for JHMDB.

    Example: siammae score jhmdb JHMDB predictions

    Args:
        root: Folder with Rename_Images, joint_positions and splits.
        pred: Folder or ZIP file of one VIDEO.csv for each video, with the columns frame, point, x, y.
    """
    from siammae.evaluation import Jhmdb

    _score_folder(Jhmdb(root, options.sequences, options.split), pred, options)


@score_app.register(name="badja")
def score_badja(root: Root, pred: Pred, options: Options, joints: Path | None = None) -> None:
    """Score predicted joints for BADJA.

    Example: siammae score badja DAVIS predictions --joints BADJA/joint_annotations

    Args:
        root: DAVIS folder with JPEGImages/480p and Annotations/480p.
        pred: Folder or ZIP file of one SEQUENCE.csv for each sequence, with the columns frame, point, x, y.
        joints: Folder with SEQUENCE.json files; ROOT/joint_annotations if not given.
    """
    from siammae.evaluation import Badja

    _score_folder(Badja(root, options.sequences, options.split, joints=joints), pred, options)


@score_app.register(name="tapvid")
def score_tapvid(root: Root, pred: Pred, options: Options, queries: Queries = "first", occluded_below: float = 0.1) -> None:
    """Score tracked points for TAP-Vid or RoboTAP.

    Example: siammae score tapvid tapvid_davis.pkl predictions --queries strided

    Args:
        root: Pickle of TAP-Vid's layout, or a folder of them; nothing in it is run.
        pred: Folder or ZIP file of one VIDEO.csv for each video, with the columns frame, point, x, y, score.
        queries: Frames in which points are given: the first visible one, or every fifth.
        occluded_below: Score below which a point is predicted occluded.
    """
    from siammae.evaluation import TapVid

    _score_folder(TapVid(root, options.sequences, options.split, queries, occluded_below), pred, options)


def _score_folder(dataset: "Dataset", pred: Path, options: ScoreOptions) -> None:
    """Score predictions in a folder or a ZIP file, and report the scores."""
    from siammae.evaluation.submission import open_predictions

    with open_predictions(pred) as folder:
        scores = _score(dataset, folder, options)
    _report(dataset, scores, options)


def _score(dataset: "Dataset", pred: Path, options: ScoreOptions) -> "Scores":
    """Score predictions under a progress bar."""
    from tqdm import tqdm

    from siammae.files import check_output

    if options.out is not None:
        check_output(options.out, (".json",))
    with tqdm(desc="score", unit="sequence", disable=None) as bar:
        return dataset.score(pred, progress=lambda _: bar.update())


def _report(dataset: "Dataset", scores: "Scores", options: ScoreOptions, **facts: Any) -> None:
    """Print the scores, and write them if a file was asked for."""
    from siammae import __version__
    from siammae.evaluation.evaluation import write_scores

    about = {"dataset": dataset.name, "protocol": dataset.rule, **facts, "siammae": __version__}
    if options.as_json:
        print_json({**about, **scores.figures()})
    else:
        print(scores.table())
    if options.out is not None:
        write_scores(options.out, scores, about)
        print(f"scores: {options.out}", file=sys.stderr if options.as_json else sys.stdout)
