"""The commands `siammae evaluate`: predict the labels of a data set, then score them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from siammae.cli.checks import CheckedApp, Readable
from siammae.cli.options import Json, ModelOptions, Out, print_json, read_changes

if TYPE_CHECKING:
    from siammae.evaluation import Dataset
    from siammae.evaluation.evaluation import Options as Settings

evaluate_app = CheckedApp()
Root = Annotated[Positional[Path], arg(metavar="ROOT"), Readable("folder of a data set")]
Size = tuple[int, int] | None
Resolution = Literal["480p", "Full-Resolution"]
Queries = Literal["first", "strided"]


@dataclass(frozen=True)
class EvaluateOptions(ModelOptions):
    """The options of every evaluation."""

    size: tuple[int, ...] = ()
    """Shorter side in pixels at which the encoder sees the frames, or height and width, instead of the protocol's."""
    protocol: str = "best"
    """Settings to evaluate with: best, dino (not VIP and JHMDB), crw, cropmae or paper; printed with all values."""
    set: tuple[str, ...] = ()
    """Single values to change in the protocol, such as top_k=7 radius=20."""
    sequences: tuple[str, ...] = ()
    """Sequences to evaluate; the data set's own validation or test set if neither they nor a split are given."""
    split: Path | None = None
    """Text file with a sequence in each line."""
    resume: bool = False
    """Continue an interrupted evaluation into the same folder."""
    predict_only: bool = False
    """Write the masks and a submission.zip for the data set's server, without scores; only first masks are needed."""
    as_json: Json = False

    def settings(self) -> "Settings":
        """Return the options as the library takes them."""
        return {
            "protocol": self.protocol,
            "size": self.input_size,
            "changes": read_changes(self.set),
            "resume": self.resume,
        }


Options = Annotated[EvaluateOptions, arg(name="")]


@evaluate_app.register(name="davis")
def evaluate_davis(root: Root, out: Out, options: Options, resized: Size = None, resolution: Resolution = "480p") -> None:
    """Propagate the masks of DAVIS 2016 or 2017 and score them: J and F.

    Example: siammae evaluate davis DAVIS -o runs/davis --protocol dino

    Example: siammae evaluate davis DAVIS-test-dev -o runs/test-dev --predict-only

    Under torchrun the sequences are split over the processes: torchrun --nproc-per-node 8 --module siammae evaluate ...

    Args:
        root: Folder with JPEGImages/480p and Annotations/480p.
        out: Folder for predictions and scores.
        resized: Height and width to score at too, such as 480 880, where some papers report their scores.
        resolution: Folder of frames and annotations to use.
    """
    from siammae.evaluation import Davis

    _evaluate(Davis(root, options.sequences, options.split, resized, resolution), out, options)


@evaluate_app.register(name="youtube-vos")
def evaluate_youtube_vos(root: Root, out: Out, options: Options, train_meta: Path | None = None) -> None:
    """Propagate the objects of YouTube-VOS, which may appear late, and score or submit them: J and F, seen and unseen.

    Example: siammae evaluate youtube-vos YouTubeVOS/valid -o runs/ytvos --predict-only

    Args:
        root: Folder with JPEGImages, Annotations and meta.json.
        out: Folder for predictions and scores.
        train_meta: Training set's meta.json, which tells the seen categories; ROOT/../train/meta.json if not given.
    """
    from siammae.evaluation import YoutubeVos

    _evaluate(YoutubeVos(root, options.sequences, options.split, train_meta), out, options)


@evaluate_app.register(name="mose")
def evaluate_mose(root: Root, out: Out, options: Options) -> None:
    """Propagate the objects of MOSE and score or submit them: J and F.

    Example: siammae evaluate mose MOSE/valid -o runs/mose --predict-only

    Args:
        root: Folder with JPEGImages and Annotations.
        out: Folder for predictions and scores.
    """
    from siammae.evaluation import Mose

    _evaluate(Mose(root, options.sequences, options.split), out, options)


@evaluate_app.register(name="lvos")
def evaluate_lvos(root: Root, out: Out, options: Options, unseen: Path | None = None) -> None:
    """Propagate the objects of LVOS through long videos, and score or submit them: J and F, seen and unseen.

    Example: siammae evaluate lvos LVOS/valid -o runs/lvos --unseen unseen_videos.txt

    Args:
        root: Folder with JPEGImages, Annotations and a file that ends in meta.json.
        out: Folder for predictions and scores.
        unseen: Text file with the videos of unseen categories; ROOT/unseen_videos.txt if not given.
    """
    from siammae.evaluation import Lvos

    _evaluate(Lvos(root, options.sequences, options.split, unseen), out, options)


@evaluate_app.register(name="chen")
def evaluate_chen(root: Root, out: Out, options: Options) -> None:
    """Propagate all labels of Chen's clips and score them: mean IoU.

    Example: siammae evaluate chen CHEN -o runs/chen

    Args:
        root: Folder with JPEGImages and Annotations, each with a folder for each clip.
        out: Folder for predictions and scores.
    """
    from siammae.evaluation import Chen

    _evaluate(Chen(root, options.sequences, options.split), out, options)


@evaluate_app.register(name="vip")
def evaluate_vip(root: Root, out: Out, options: Options, per_video: bool = False) -> None:
    """Propagate the human parts of VIP and score them: mean IoU.

    Example: siammae evaluate vip VIP/VIP_Fine -o runs/vip --protocol cropmae

    Args:
        root: Folder with Images, Annotations/Category_ids and lists.
        out: Folder for predictions and scores.
        per_video: Average the mean IoU of each video, instead of taking it over all pixels.
    """
    from siammae.evaluation import Vip

    _evaluate(Vip(root, options.sequences, options.split, per_video=per_video), out, options)


@evaluate_app.register(name="jhmdb")
def evaluate_jhmdb(root: Root, out: Out, options: Options) -> None:
    """Propagate the body joints of JHMDB's first split and score them: PCK.

    Example: siammae evaluate jhmdb JHMDB -o runs/jhmdb --protocol cropmae

    Args:
        root: Folder with Rename_Images, joint_positions and splits.
        out: Folder for predictions and scores.
    """
    from siammae.evaluation import Jhmdb

    _evaluate(Jhmdb(root, options.sequences, options.split), out, options)


@evaluate_app.register(name="badja")
def evaluate_badja(root: Root, out: Out, options: Options, joints: Path | None = None) -> None:
    """Propagate BADJA's animal joints through DAVIS sequences and score them: PCK.

    Example: siammae evaluate badja DAVIS -o runs/badja --joints BADJA/joint_annotations

    Args:
        root: DAVIS folder with JPEGImages/480p and Annotations/480p.
        out: Folder for predictions and scores.
        joints: Folder with SEQUENCE.json files; ROOT/joint_annotations if not given.
    """
    from siammae.evaluation import Badja

    _evaluate(Badja(root, options.sequences, options.split, joints=joints), out, options)


@evaluate_app.register(name="tapvid")
def evaluate_tapvid(root: Root, out: Out, options: Options, queries: Queries = "first", occluded_below: float = 0.1) -> None:
    """Track the points of TAP-Vid or RoboTAP and score them: average Jaccard, delta avg, occlusion accuracy.

    Example: siammae evaluate tapvid tapvid_davis.pkl -o runs/tapvid --queries strided

    Args:
        root: Pickle of TAP-Vid's layout, or a folder of them; nothing in it is run.
        out: Folder for predictions and scores.
        queries: Frames in which points are given: the first visible one, or every fifth.
        occluded_below: Score below which a point is predicted occluded.
    """
    from siammae.evaluation import TapVid

    _evaluate(TapVid(root, options.sequences, options.split, queries, occluded_below), out, options)


@evaluate_app.register(name="robustness")
def evaluate_robustness(
    root: Root, out: Out, options: Options, distortions: tuple[str, ...] = (), resolution: Resolution = "480p"
) -> None:
    """Evaluate on DAVIS clean, with dropped frames, blur, noise, JPEG, exposure steps, half and double speed: J of each.

    Example: siammae evaluate robustness DAVIS -o runs/robust --sequences dog camel

    Args:
        root: Folder in DAVIS's layout.
        out: Folder for the distorted sequences, predictions and scores.
        distortions: Distortions to evaluate: dropped, blur, noise, jpeg, exposure, half-speed, double-speed; all if not given.
        resolution: Folder of frames and annotations to use.
    """
    from siammae.evaluation import Davis, evaluate_robustness
    from siammae.evaluation.robustness import ROBUSTNESS_FILE

    dataset = Davis(root, options.sequences, options.split, resolution=resolution)
    if options.predict_only:
        raise ValueError("--predict-only writes a submission, and there is none for distorted sequences; leave it out")
    robustness = evaluate_robustness(dataset, out, options.load(), distortions=distortions, **options.settings())
    if robustness is not None:
        if options.as_json:
            print_json({**robustness.about, **robustness.figures()})
        else:
            print(f"{robustness.table()}\nscores: {out / ROBUSTNESS_FILE}")


@evaluate_app.register(name="report")
def evaluate_report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="OUT")], out: Out = Path("report.html"), worst: int = 6
) -> None:
    """Write a page that compares evaluations: scores as bars, curves over time, the worst frames beside the truth.

    Example: siammae evaluate report runs/dino runs/best -o report.html

    Args:
        runs: Folders that siammae evaluate wrote for one data set.
        out: HTML file to write, complete in itself.
        worst: Number of worst frames to show.
    """
    from siammae.evaluation.report import write_report

    print(f"report: {write_report(runs, out, worst=worst)}")


def _evaluate(dataset: "Dataset", out: Path, options: EvaluateOptions) -> None:
    from siammae.evaluation.evaluation import SCORES_FILE, evaluate, predict_only

    if options.predict_only:
        archive = predict_only(dataset, out, options.load(), **options.settings())
        if archive is not None:
            print(f"submission: {archive}")
        return
    evaluation = evaluate(dataset, out, options.load(), **options.settings())
    if evaluation is not None:
        if options.as_json:
            print_json({**evaluation.about, **evaluation.scores.figures()})
        else:
            print(f"{evaluation.table()}\nscores: {out / SCORES_FILE}")
