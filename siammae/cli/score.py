"""The commands `siammae score`: scores of existing predictions."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from siammae.cli.evaluate import OutFile, Root, Size, check_scores_file
from siammae.cli.options import Json, print_json

if TYPE_CHECKING:
    from siammae.evaluation.datasets import Dataset, Scores

score_app = SubcommandApp()
Pred = Annotated[Positional[Path], arg(metavar="PRED")]


@score_app.command(name="davis")
def score_davis(
    gt: Annotated[Positional[Path], arg(metavar="GT")],
    pred: Pred,
    sequences: tuple[str, ...] = (),
    split: Path | None = None,
    resized: Size = None,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Score masks that anybody predicted for DAVIS 2016 or 2017, as the official davis2017-evaluation does.

    Example: siammae score davis DAVIS predictions -o scores.json

    Args:
        gt: The data set, with Annotations/480p in it, or a folder of one folder of PNG masks for each sequence.
        pred: A folder of one folder for each sequence, with PNG masks named like the annotations.
        sequences: Those that are scored; GT's own validation split, or all, if neither they nor a split are given.
        split: Text file with a sequence in each line.
        resized: Score at this height and width too, such as 480 880, where some papers report their scores.
        out: JSON file for all figures, with those of every frame.
    """
    from siammae.evaluation import Davis

    dataset = Davis(gt, sequences, split, resized=resized)
    scores = _score(dataset, pred, out)
    gt_sha256, pred_sha256 = dataset.digests(pred)
    about = {"gt": {"path": str(gt), "sha256": gt_sha256}, "pred": {"path": str(pred), "sha256": pred_sha256}}
    _report(dataset, scores, out, as_json, **about)


@score_app.command(name="vip")
def score_vip(
    root: Root,
    pred: Pred,
    sequences: tuple[str, ...] = (),
    split: Path | None = None,
    per_video: bool = False,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Score part masks that anybody predicted for VIP.

    Example: siammae score vip VIP/VIP_Fine predictions

    Args:
        root: Folder with Images, Annotations/Category_ids and lists.
        pred: A folder of one folder for each video, with PNG masks of class ids named like the annotations.
        sequences: Those that are scored; lists/val_videos.txt if neither they nor a split are given.
        split: Text file with a video in each line.
        per_video: Mean over videos of each one's mean IoU, instead of that over all pixels.
        out: JSON file for all figures.
    """
    from siammae.evaluation import Vip

    dataset = Vip(root, sequences, split, per_video=per_video)
    _report(dataset, _score(dataset, pred, out), out, as_json)


@score_app.command(name="jhmdb")
def score_jhmdb(
    root: Root,
    pred: Pred,
    sequences: tuple[str, ...] = (),
    split: Path | None = None,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Score joints that anybody predicted for JHMDB.

    Example: siammae score jhmdb JHMDB predictions

    Args:
        root: Folder with Rename_Images, joint_positions and splits.
        pred: A folder of one VIDEO.csv for each video, with the columns frame, point, x, y.
        sequences: Those that are scored; the test videos of split 1 if neither they nor a split are given.
        split: Text file with a video in each line.
        out: JSON file for all figures.
    """
    from siammae.evaluation import Jhmdb

    dataset = Jhmdb(root, sequences, split)
    _report(dataset, _score(dataset, pred, out), out, as_json)


@score_app.command(name="badja")
def score_badja(
    root: Root,
    pred: Pred,
    joints: Path | None = None,
    sequences: tuple[str, ...] = (),
    split: Path | None = None,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Score joints that anybody predicted for BADJA.

    Example: siammae score badja DAVIS predictions --joints BADJA/joint_annotations

    Args:
        root: DAVIS folder with JPEGImages/480p and Annotations/480p.
        pred: A folder of one SEQUENCE.csv for each sequence, with the columns frame, point, x, y.
        joints: Folder of SEQUENCE.json; ROOT/joint_annotations if not given.
        sequences: Those that are scored; all that there are joints of if neither they nor a split are given.
        split: Text file with a sequence in each line.
        out: JSON file for all figures.
    """
    from siammae.evaluation import Badja

    dataset = Badja(root, sequences, split, joints=joints)
    _report(dataset, _score(dataset, pred, out), out, as_json)


def _score(dataset: "Dataset", pred: Path, out: Path | None) -> "Scores":
    from tqdm import tqdm

    check_scores_file(out)
    with tqdm(desc="score", unit="sequence", disable=None) as bar:
        return dataset.score(pred, progress=lambda _: bar.update())


def _report(dataset: "Dataset", scores: "Scores", out: Path | None, as_json: bool, **facts: Any) -> None:
    """Print the scores, and write them to `out` if it is given."""
    from siammae import __version__
    from siammae.evaluation.evaluation import write_scores

    about = {"dataset": dataset.name, "protocol": dataset.rule, **facts, "siammae": __version__}
    if as_json:
        print_json({**about, **scores.figures()})
    else:
        print(scores.table())
    if out is not None:
        write_scores(out, scores, about)
        print(f"scores: {out}", file=sys.stderr if as_json else sys.stdout)
