"""The command `siammae propagate`: one video or many, each with its first mask."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import Positional, UseAppendAction, arg

from siammae.cli.checks import Readable, ReadableVideo, out_of_memory
from siammae.cli.options import FrameSpan, Model, OnDamage, Out, Propagation, read_span, stop

if TYPE_CHECKING:
    from siammae.labels.masks import Mask
    from siammae.video.frames import Frames


def propagate(
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="VIDEO MASK")],
    out: Out,
    model: Model,
    propagation: Propagation,
    masks: Path | None = None,
    overlay: Path | None = None,
    start: int = 0,
    mask_at: UseAppendAction[tuple[tuple[int, Path], ...]] = (),
    frames: FrameSpan = None,
    void_id: int | None = None,
    resume: bool = False,
    restart: bool = False,
    on_damage: OnDamage = "error",
) -> None:
    """Propagate the mask of one frame through a video, or those of several videos through theirs.

    With several videos, OUT (and the folder of overlays) gets one entry for each, by its name. A video that fails does not
    stop the others: a summary follows, and exit code 1.

    Example: siammae propagate horse.mp4 horse.png -o masks --overlay horse-overlay.mp4

    Example: siammae propagate horse.mp4 --mask-at 0 horse.png --mask-at 120 horse-later.png --frames 0:300 -o masks

    Example: siammae propagate horse.mp4 horse.png dog.mp4 dog.png -o results

    Example: siammae propagate videos/*.mp4 --masks first-masks -o results --overlay overlays

    Args:
        inputs: Video file, folder of images, or quoted glob, and the PNG with the ids of its anchor, indexed or grey; more
            such pairs; or, with --masks, videos alone.
        out: Folder for one indexed PNG a frame and the table scores.csv; with several videos, for such folders.
        masks: Folder that holds the mask of each video under its name: videos/horse.mp4 has horse.png.
        overlay: Video to write too, with the masks drawn over the frames: .mp4 or .gif; with several videos a folder.
        start: Number of the anchor, the frame that the mask belongs to.
        mask_at: Number of a frame and its mask, once for each mask: a correction, or an object that comes later. It labels the
            whole frame.
        void_id: Id that means "unknown" in the mask, such as 255.
        resume: Continue an interrupted run; masks that are missing or broken are made again.
        restart: Start over where a run with other settings was left unfinished.
    """
    jobs = find_jobs(inputs, masks, out, overlay, start, mask_at, frames)
    if len(jobs) == 1:
        ReadableVideo().check(jobs[0].video)
        for path in jobs[0].masks.values():
            Readable("picture").check(path)

    from siammae.propagation.folder import propagate_to_folder

    write_masks = partial(
        propagate_to_folder,
        size=model.input_size,
        config=propagation.config(),
        void_id=void_id,
        resume=resume,
        restart=restart,
        model=model.load(),
    )
    if len(jobs) == 1 and masks is None:
        run_job(jobs[0], write_masks, on_damage)
        return
    failed = run_each(jobs, write_masks, on_damage)
    print(f"{len(jobs) - len(failed)} of {len(jobs)} videos done")
    if failed:
        stop(f"failed: {', '.join(failed)}", 1)


WriteMasks = Callable[["Frames", "dict[int, Mask]", Path], object]  # writes the masks of a video into a folder


class Job(NamedTuple):
    """One video, its masks by the numbers of their frames, the folder for all masks, the file for its overlay, and its span."""

    video: str
    masks: dict[int, Path]
    out: Path
    overlay: Path | None
    frames: str | None = None


def find_jobs(
    inputs: Sequence[str],
    masks: Path | None,
    out: Path,
    overlay: Path | None,
    start: int = 0,
    mask_at: Sequence[tuple[int, Path]] = (),
    frames: str | None = None,
) -> list[Job]:
    """Make a job of each video in the arguments of `siammae propagate`.

    Args:
        inputs: Videos and masks in turn; with `masks`, videos alone.
        masks: Folder of one NAME.png for each video.
        out, overlay: Folder and file of a single pair; otherwise folders that get an entry for each video.
        start: Number of the frame that a video's mask belongs to.
        mask_at: Numbers of frames and further masks of a single video, which needs no other then.
        frames: Span of the frames of a single video.

    Raises:
        ValueError: There is no video, a video has no mask, a frame two, or two videos have one name.
    """
    from siammae.files import check_output

    if mask_at or frames is not None:
        given = [(start, Path(path)) for path in inputs[1:]] + list(mask_at)
        if masks is not None or not 1 <= len(inputs) <= 2 or not given:
            raise ValueError(f"--mask-at and --frames are for one video and its masks; got {len(inputs)} paths")
        numbers = [number for number, _ in given]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"two masks are given for frame {max(numbers, key=numbers.count)}; expected one for a frame")
        if overlay is not None:
            check_output(overlay, (".mp4", ".gif"))
        return [Job(inputs[0], dict(given), out, overlay, frames)]
    if not inputs or (masks is None and len(inputs) % 2):
        raise ValueError(f"expected a video and its mask, more such pairs, or videos with --masks; got {len(inputs)} paths")
    if masks is None and len(inputs) == 2:
        if overlay is not None:
            check_output(overlay, (".mp4", ".gif"))
        return [Job(inputs[0], {start: Path(inputs[1])}, out, overlay)]
    videos = list(inputs) if masks is not None else list(inputs[::2])
    names = [Path(video).name if Path(video).is_dir() else Path(video).stem for video in videos]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"several videos are called {', '.join(repeated)}, and would get one folder; propagate them apart")
    if overlay is not None and overlay.suffix:
        raise ValueError(f"--overlay is {overlay}; with several videos it is a folder, which gets NAME.mp4 for each")
    first_masks = [masks / f"{name}.png" for name in names] if masks is not None else [Path(path) for path in inputs[1::2]]
    return [
        Job(video, {start: mask}, out / name, overlay / f"{name}.mp4" if overlay else None)
        for video, mask, name in zip(videos, first_masks, names, strict=True)
    ]


def run_each(jobs: Sequence[Job], write_masks: WriteMasks, on_damage: OnDamage = "error") -> list[str]:
    """Run the jobs in turn, print what stops one of them, and return the videos that failed."""
    failed = []
    for job in jobs:
        try:
            run_job(job, write_masks, on_damage)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            line = str(error) if isinstance(error, ValueError | OSError) else out_of_memory(error)
            if line is None:
                raise
            failed.append(job.video)
            print(f"siammae: {job.video}: {line}", file=sys.stderr, flush=True)
    return failed


def run_job(job: Job, write_masks: WriteMasks, on_damage: OnDamage = "error") -> None:
    """Write the masks of a video, and its overlay; when the video is damaged, those of the frames before the damage."""
    from siammae.errors import VideoError
    from siammae.labels.masks import as_mask
    from siammae.video.frames import read_frames

    frames, first = read_span(read_frames(job.video, on_damage=on_damage), job.frames)
    masks: dict[int, Mask] = {}
    for number, path in sorted(job.masks.items()):
        if job.frames is not None and not 0 <= number - first < len(frames):
            raise ValueError(f"the mask {path} belongs to frame {number}, which is not among --frames {job.frames}")
        masks[number - first] = as_mask(path, empty=bool(masks))
    mask = masks[min(masks)]
    if job.overlay is not None:
        job.overlay.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_masks(frames, masks, job.out)
    except VideoError:
        if (job.out / f"{frames.name(0)}.png").exists():
            _finish(job, frames, mask.palette)
        raise
    _finish(job, frames, mask.palette)


def _finish(job: Job, frames: "Frames", palette: list[int] | None) -> None:
    """Say where the masks are, and draw them over their frames if an overlay was asked for."""
    from siammae.propagation.folder import read_folder
    from siammae.propagation.table import describe_lost, read_lost
    from siammae.video.encode import write_video
    from siammae.visualize.masks import overlay as draw_masks

    print(f"masks: {job.out}")
    lost = read_lost(job.out)
    for sentence in describe_lost(lost):
        print(f"siammae: warning: {job.video}: {sentence}", file=sys.stderr, flush=True)
    if job.overlay is not None:
        pictures = (
            draw_masks(frame, ids, palette, lost=sorted(lost.get(frames.number(index), ())))
            for index, (frame, ids) in enumerate(read_folder(frames, job.out))
        )
        write_video(job.overlay, pictures, frames.fps or 25, pixel_aspect=frames.pixel_aspect)
        print(f"overlay: {job.overlay}")
