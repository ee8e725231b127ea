"""The command `siammae propagate`: one video or many, each with its first mask."""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from tyro.conf import Positional, arg

from siammae.cli.options import Dtype, Out, encoder_size, load, read_config, stop
from siammae.models.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from siammae.encoder import Encoder
    from siammae.video.frames import Frames


def propagate(
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="VIDEO MASK")],
    out: Out,
    masks: Path | None = None,
    overlay: Path | None = None,
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    preset: str = "default",
    set: tuple[str, ...] = (),
    start: int = 0,
    void_id: int | None = None,
    resume: bool = False,
    device: str | None = None,
    dtype: Dtype = "float32",
) -> None:
    """Carry the mask of one frame through a video, or those of several videos through theirs.

    With several videos, OUT (and the folder of overlays) gets one entry for each, by its name. A video that fails does not
    stop the others: a summary follows, and exit code 1.

    Example: siammae propagate horse.mp4 horse.png -o masks --overlay horse-overlay.mp4

    Example: siammae propagate horse.mp4 horse.png dog.mp4 dog.png -o results

    Example: siammae propagate videos/*.mp4 --masks first-masks -o results --overlay overlays

    Args:
        inputs: A video file, folder of images, or quoted glob, and the PNG with the ids of its labelled frame, indexed or
            grey; more such pairs; or, with --masks, videos alone.
        out: Folder for one indexed PNG a frame; with several videos, for such folders.
        masks: Folder that holds the mask of each video under its name: videos/horse.mp4 has horse.png.
        overlay: Also write the masks drawn over the frames: .mp4 or .gif; with several videos a folder.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        preset: default, dino, crw or cropmae.
        set: Single values of the preset, such as top_k=7 radius=20.
        start: Number of the frame that the mask belongs to.
        void_id: Id that means "unknown" in the mask, such as 255.
        resume: Go on with an interrupted run.
        device: cuda, mps, cpu; the fastest there is if not given.
        dtype: Of the weights and features.
    """
    jobs = find_jobs(inputs, masks, out, overlay)
    settings = {
        "size": encoder_size(size),
        "config": read_config(preset, set),
        "start": start,
        "void_id": void_id,
        "resume": resume,
    }
    encoder = cache(lambda: load(model, pretrained, device, dtype))
    if len(jobs) == 1 and masks is None:
        carry(jobs[0], encoder, **settings)
        return
    failed = []
    encoder()  # what is wrong with the model is no video's fault
    for job in jobs:
        try:
            carry(job, encoder, **settings)
        except (ValueError, OSError) as error:
            failed.append(job.video)
            print(f"siammae: {job.video}: {error}", file=sys.stderr, flush=True)
    print(f"{len(jobs) - len(failed)} of {len(jobs)} videos done")
    if failed:
        stop(f"failed: {', '.join(failed)}", 1)


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
    from siammae.files import check_output

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


def carry(job: Job, encoder: "Callable[[], Encoder]", **settings: Any) -> None:
    """Write the masks of a video, and the overlay, and say where they are.

    Args:
        encoder: called once the video and its mask are known to be there.
        settings: of `siammae.propagation.propagate_to_folder`.
    """
    from siammae.errors import VideoError
    from siammae.labels.masks import as_mask
    from siammae.propagation.folder import propagate_to_folder
    from siammae.video.frames import read_frames

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


def _report(job: Job, frames: "Frames", palette: list[int] | None) -> None:
    from siammae.propagation.folder import read_folder
    from siammae.video.encode import write_video
    from siammae.visualize.masks import overlay as draw_masks

    print(f"masks: {job.out}")
    if job.overlay is not None:
        pictures = (draw_masks(frame.permute(1, 2, 0).numpy(), ids, palette) for frame, ids in read_folder(frames, job.out))
        write_video(job.overlay, pictures, frames.fps or 25)
        print(f"overlay: {job.overlay}")
