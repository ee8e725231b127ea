"""`siammae evaluate` and `siammae score`: the commands over the functions of this package."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from siammae.cli_options import Dtype, Json, Out, encoder_size, load, print_json
from siammae.registry import DEFAULT_MODEL

evaluate_app, score_app = SubcommandApp(), SubcommandApp()

Root = Annotated[Positional[Path], arg(metavar="ROOT")]
Pred = Annotated[Positional[Path], arg(metavar="PRED")]
OutFile = Annotated[Path | None, arg(aliases=["-o"])]
Size = tuple[int, int] | None


@dataclass(frozen=True)
class Run:
    """What every evaluation is asked for."""

    model: str = DEFAULT_MODEL
    """Registered name, timm:NAME, model folder or .safetensors file."""
    pretrained: bool = True
    """--no-pretrained takes the initial weights of the architecture."""
    protocol: str = "best"
    """best, dino (DAVIS and BADJA), crw, cropmae or paper; printed with all its values."""
    sequences: tuple[str, ...] = ()
    """Those that are evaluated; the data set's own validation or test set if neither they nor a split are given."""
    split: Path | None = None
    """Text file with a sequence in each line."""
    size: tuple[int, ...] = ()
    """Shorter side in pixels at which the encoder sees the frames, or height and width, instead of the protocol's."""
    set: tuple[str, ...] = ()
    """Single values of the protocol's, such as top_k=7 radius=20."""
    resume: bool = False
    """Go on where an interrupted evaluation into the same folder stopped."""
    device: str | None = None
    """cuda, mps, cpu; the fastest there is if not given."""
    dtype: Dtype = "float32"
    """Of the weights and features."""
    json: bool = False
    """Print the figures as JSON, for programs, instead of a table."""


Flat = Annotated[Run, arg(name="")]


@evaluate_app.command(name="davis")
def evaluate_davis(root: Root, out: Out, run: Flat, resized: Size = None) -> None:
    """Propagate the masks of DAVIS 2016 or 2017 and score them: J and F.

    Example: siammae evaluate davis DAVIS -o runs/davis --protocol dino

    Under torchrun the sequences are split over the processes: torchrun --nproc-per-node 8 --module siammae.cli evaluate ...

    Args:
        root: Folder with JPEGImages/480p and Annotations/480p.
        out: Folder for predictions and scores.
        resized: Score at this height and width too, such as 480 880, where some papers report their scores.
    """
    _evaluate("davis", root, out, run, resized=resized)


@evaluate_app.command(name="vip")
def evaluate_vip(root: Root, out: Out, run: Flat, per_video: bool = False) -> None:
    """Propagate the human parts of VIP and score them: mean IoU.

    Example: siammae evaluate vip VIP/VIP_Fine -o runs/vip --protocol cropmae

    Args:
        root: Folder with Images, Annotations/Category_ids and lists.
        out: Folder for predictions and scores.
        per_video: Mean over videos of each one's mean IoU, instead of that over all pixels.
    """
    _evaluate("vip", root, out, run, per_video=per_video)


@evaluate_app.command(name="jhmdb")
def evaluate_jhmdb(root: Root, out: Out, run: Flat) -> None:
    """Propagate the body joints of JHMDB's first split and score them: PCK.

    Example: siammae evaluate jhmdb JHMDB -o runs/jhmdb --protocol cropmae

    Args:
        root: Folder with Rename_Images, joint_positions and splits.
        out: Folder for predictions and scores.
    """
    _evaluate("jhmdb", root, out, run)


@evaluate_app.command(name="badja")
def evaluate_badja(root: Root, out: Out, run: Flat, joints: Path | None = None) -> None:
    """Propagate BADJA's animal joints through DAVIS sequences and score them: PCK.

    Example: siammae evaluate badja DAVIS -o runs/badja --joints BADJA/joint_annotations

    Args:
        root: DAVIS folder with JPEGImages/480p and Annotations/480p.
        out: Folder for predictions and scores.
        joints: Folder of SEQUENCE.json; ROOT/joint_annotations if not given.
    """
    _evaluate("badja", root, out, run, joints=joints)


@evaluate_app.command(name="report")
def evaluate_report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="OUT")], out: Out = Path("report.html"), worst: int = 6
) -> None:
    """Make one page of evaluations: scores as bars, curves over time, the worst frames beside the truth; several side by side.

    Example: siammae evaluate report runs/dino runs/best -o report.html

    Args:
        runs: Folders that siammae evaluate wrote, of one data set.
        out: HTML file, complete in itself.
        worst: Frames that are shown.
    """
    from siammae.evaluation.report import write_report

    print(f"report: {write_report(runs, out, worst=worst)}")


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
    from siammae.evaluation import davis

    _check(out)
    names, options = list(sequences) or None, {"resized": resized}
    scores = _score(davis.score_davis, gt, pred, sequences=names, split=split, **options)
    gt_sha256, pred_sha256 = davis.digests(gt, pred, names, split)
    rule = "first and last frame dropped, means over objects"
    about = {"gt": {"path": str(gt), "sha256": gt_sha256}, "pred": {"path": str(pred), "sha256": pred_sha256}}
    _report(out, as_json, scores, dataset="davis", protocol=rule, **about)


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
    from siammae.evaluation.vip import score_vip as score

    _check(out)
    scores = _score(score, root, pred, sequences=list(sequences) or None, split=split, per_video=per_video)
    _report(out, as_json, scores, dataset="vip", protocol="20 classes, first frame included")


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
    from siammae.evaluation.jhmdb import score_jhmdb as score

    _check(out)
    scores = _score(score, root, pred, sequences=list(sequences) or None, split=split)
    _report(out, as_json, scores, dataset="jhmdb", protocol="units of 0.6 of the diagonal of the box around the joints")


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
    from siammae.evaluation.badja import score_badja as score

    _check(out)
    scores = _score(score, root, pred, sequences=list(sequences) or None, split=split, joints=joints)
    _report(out, as_json, scores, dataset="badja", protocol="0.2 of the square root of the animal's area")


def _evaluate(dataset: str, root: Path, out: Path, run: Run, **options: Any) -> None:
    from siammae.config import read_changes
    from siammae.evaluation.evaluate import SCORES_FILE, evaluate

    model = load(run.model, run.pretrained, run.device, run.dtype)
    evaluation = evaluate(
        dataset,
        root,
        out,
        model,
        protocol=run.protocol,
        sequences=run.sequences or None,
        split=run.split,
        size=encoder_size(run.size),
        changes=read_changes(run.set),
        resume=run.resume,
        **options,
    )
    if evaluation is not None:
        if run.json:
            print_json({**evaluation.about, **evaluation.scores.figures()})
        else:
            print(f"{evaluation.table()}\nscores: {out / SCORES_FILE}")


def _check(out: Path | None) -> None:
    from siammae.output import check_output

    if out is not None:
        check_output(out, (".json",))


def _score(score: Any, *args: Any, **options: Any) -> Any:
    from tqdm import tqdm

    with tqdm(desc="score", unit="sequence", disable=None) as bar:
        return score(*args, **options, progress=lambda _: bar.update())


def _report(out: Path | None, as_json: bool, scores: Any, **about: Any) -> None:
    """Print the scores, and write them where that is asked for."""
    from siammae import __version__
    from siammae.evaluation.evaluate import write_scores

    about["siammae"] = __version__
    if as_json:
        print_json({**about, **scores.figures()})
    else:
        print(scores.table())
    if out is not None:
        write_scores(out, scores, about)
        print(f"scores: {out}", file=sys.stderr if as_json else sys.stdout)
