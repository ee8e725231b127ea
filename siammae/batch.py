"""Videos with their first masks, carried into folders: what `siammae propagate` does with one or many."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from siammae.decoding import VideoError
from siammae.encoder import Encoder
from siammae.labels import as_mask
from siammae.output import check_output, write_video
from siammae.runs import propagate_to_folder, read_run
from siammae.video import Frames, read_frames
from siammae.visualize import overlay as draw_masks


class Job(NamedTuple):
    """One video, its first mask, the folder for its masks, and the file for its overlay."""

    video: str
    mask: Path
    out: Path
    overlay: Path | None


def find_jobs(inputs: Sequence[str], masks: Path | None, out: Path, overlay: Path | None) -> list[Job]:
    """What the arguments of `siammae propagate` ask for.

    Args:
        inputs: videos and masks in turn; or, with `masks`, videos alone.
        masks: folder of one NAME.png for each video.
        out, overlay: of a single pair, its folder and file; else folders that get an entry for each video.

    Raises:
        ValueError: no video, a video without a mask, or two of one name.
    """
    if not inputs or (masks is None and len(inputs) % 2):
        raise ValueError(f"expected a video and its mask, more such pairs, or videos with --masks; got {len(inputs)} paths")
    if masks is None and len(inputs) == 2:
        if overlay is not None:
            check_output(overlay, (".mp4", ".gif"))
        return [Job(inputs[0], Path(inputs[1]), out, overlay)]
    videos = list(inputs) if masks is not None else list(inputs[::2])
    names = [Path(video).name if Path(video).is_dir() else Path(video).stem for video in videos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several videos are called {', '.join(twice)}, and would get one folder; propagate them apart")
    if overlay is not None and overlay.suffix:
        raise ValueError(f"--overlay is {overlay}; with several videos it is a folder, which gets NAME.mp4 for each")
    firsts = [masks / f"{name}.png" for name in names] if masks is not None else [Path(path) for path in inputs[1::2]]
    return [
        Job(video, first, out / name, overlay / f"{name}.mp4" if overlay else None)
        for video, first, name in zip(videos, firsts, names, strict=True)
    ]


def carry(job: Job, encoder: Callable[[], Encoder], **settings: Any) -> None:
    """Write the masks of a video, and the overlay, and say where they are.

    Args:
        encoder: called once the video and its mask are known to be there.
        settings: of `siammae.runs.propagate_to_folder`.
    """
    frames, mask = read_frames(job.video), as_mask(job.mask)
    if job.overlay is not None:
        job.overlay.parent.mkdir(parents=True, exist_ok=True)
    try:
        propagate_to_folder(frames, mask, job.out, encoder(), **settings)
    except VideoError:  # the frames before the damage have their masks, and are shown too
        if (job.out / f"{frames.name(0)}.png").exists():
            _report(job, frames, mask.palette)
        raise
    _report(job, frames, mask.palette)


def _report(job: Job, frames: Frames, palette: list[int] | None) -> None:
    print(f"masks: {job.out}")
    if job.overlay is not None:
        pictures = (draw_masks(frame.permute(1, 2, 0).numpy(), ids, palette) for frame, ids in read_run(frames, job.out))
        write_video(job.overlay, pictures, frames.fps or 25)
        print(f"overlay: {job.overlay}")
