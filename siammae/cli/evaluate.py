"""The commands `siammae evaluate`: predict a data set, then score it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from siammae.cli.options import Dtype, Out, encoder_size, load, print_json
from siammae.models.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from siammae.evaluation import Dataset

evaluate_app = SubcommandApp()
Root = Annotated[Positional[Path], arg(metavar="ROOT")]
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

    Under torchrun the sequences are split over the processes: torchrun --nproc-per-node 8 --module siammae evaluate ...

    Args:
        root: Folder with JPEGImages/480p and Annotations/480p.
        out: Folder for predictions and scores.
        resized: Score at this height and width too, such as 480 880, where some papers report their scores.
    """
    from siammae.evaluation import Davis

    _evaluate(Davis(root, run.sequences, run.split, resized=resized), out, run)


@evaluate_app.command(name="vip")
def evaluate_vip(root: Root, out: Out, run: Flat, per_video: bool = False) -> None:
    """Propagate the human parts of VIP and score them: mean IoU.

    Example: siammae evaluate vip VIP/VIP_Fine -o runs/vip --protocol cropmae

    Args:
        root: Folder with Images, Annotations/Category_ids and lists.
        out: Folder for predictions and scores.
        per_video: Mean over videos of each one's mean IoU, instead of that over all pixels.
    """
    from siammae.evaluation import Vip

    _evaluate(Vip(root, run.sequences, run.split, per_video=per_video), out, run)


@evaluate_app.command(name="jhmdb")
def evaluate_jhmdb(root: Root, out: Out, run: Flat) -> None:
    """Propagate the body joints of JHMDB's first split and score them: PCK.

    Example: siammae evaluate jhmdb JHMDB -o runs/jhmdb --protocol cropmae

    Args:
        root: Folder with Rename_Images, joint_positions and splits.
        out: Folder for predictions and scores.
    """
    from siammae.evaluation import Jhmdb

    _evaluate(Jhmdb(root, run.sequences, run.split), out, run)


@evaluate_app.command(name="badja")
def evaluate_badja(root: Root, out: Out, run: Flat, joints: Path | None = None) -> None:
    """Propagate BADJA's animal joints through DAVIS sequences and score them: PCK.

    Example: siammae evaluate badja DAVIS -o runs/badja --joints BADJA/joint_annotations

    Args:
        root: DAVIS folder with JPEGImages/480p and Annotations/480p.
        out: Folder for predictions and scores.
        joints: Folder of SEQUENCE.json; ROOT/joint_annotations if not given.
    """
    from siammae.evaluation import Badja

    _evaluate(Badja(root, run.sequences, run.split, joints=joints), out, run)


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


def _evaluate(dataset: "Dataset", out: Path, run: Run) -> None:
    from siammae.cli.options import read_changes
    from siammae.evaluation.evaluation import SCORES_FILE, evaluate

    model = load(run.model, run.pretrained, run.device, run.dtype)
    evaluation = evaluate(
        dataset,
        out,
        model,
        protocol=run.protocol,
        size=encoder_size(run.size),
        changes=read_changes(run.set),
        resume=run.resume,
    )
    if evaluation is not None:
        if run.json:
            print_json({**evaluation.about, **evaluation.scores.figures()})
        else:
            print(f"{evaluation.table()}\nscores: {out / SCORES_FILE}")


def check_scores_file(out: Path | None) -> None:
    from siammae.files import check_output

    if out is not None:
        check_output(out, (".json",))
