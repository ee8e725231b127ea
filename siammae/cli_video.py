"""The commands that read a video and write what became of it: masks, keypoints, features."""

import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from siammae.cli_options import Dtype, Out, encoder_size, load, pixels, stop
from siammae.registry import DEFAULT_MODEL

TRAIL = 15  # positions of a keypoint that are drawn


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
    from siammae.batch import carry, find_jobs

    jobs = find_jobs(inputs, masks, out, overlay)
    settings = {
        "size": encoder_size(size),
        "config": _config(preset, set),
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


def keypoints(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    points: Annotated[Positional[Path], arg(metavar="POINTS")],
    out: Out,
    overlay: Path | None = None,
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    preset: str = "default",
    set: tuple[str, ...] = (),
    start: int = 0,
    device: str | None = None,
    dtype: Dtype = "float32",
) -> None:
    """Carry keypoints of one frame through a video.

    Example: siammae keypoints dog.mp4 dog-points.csv -o tracks.csv --overlay tracks.mp4

    Args:
        video: Video file, folder of images, or a quoted glob.
        points: CSV with the columns x and y, in pixels; (0, 0) is the centre of the top left pixel.
        out: CSV with the columns frame, point, x, y, score.
        overlay: Also write the points, and the way they came, drawn over the frames: .mp4 or .gif.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        preset: default, dino, crw or cropmae.
        set: Single values of the preset, such as top_k=7 radius=20.
        start: Number of the frame that the points belong to.
        device: cuda, mps, cpu; the fastest there is if not given.
        dtype: Of the weights and features.
    """
    import numpy as np

    from siammae.output import check_output, read_keypoints, write_keypoints, write_video
    from siammae.propagation import track_keypoints
    from siammae.video import read_frames
    from siammae.visualize import draw_trails

    check_output(out, (".csv",))
    if overlay is not None:
        check_output(overlay, (".mp4", ".gif"))
    frames, points0 = read_frames(video), read_keypoints(points)
    encoder = load(model, pretrained, device, dtype)
    found: dict[int, Any] = {}
    try:
        for index, track in track_keypoints(
            frames, points0, encoder, size=encoder_size(size), config=_config(preset, set), start=start
        ):
            found[index] = track
    finally:  # what was found before damage or Ctrl-C is kept
        if found:
            numbers = sorted(found)
            tracks, scores = (np.stack([found[index][part].numpy() for index in numbers]) for part in (0, 1))
            write_keypoints(out, tracks, scores, numbers)
    print(f"keypoints: {out}")
    if overlay is not None:
        trails = (tracks[max(0, end - TRAIL) : end] for end in range(1, len(tracks) + 1))
        pictures = (draw_trails(pixels(frame), trail) for frame, trail in zip(frames, trails, strict=True))
        write_video(overlay, pictures, frames.fps or 25)
        print(f"overlay: {overlay}")


def features(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    out: Out,
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    layer: int = -1,
    normalize: bool = False,
    batch_size: int = 8,
    device: str | None = None,
    dtype: Dtype = "float32",
) -> None:
    """Write the dense features of every frame, [frames, channels, rows, columns].

    Example: siammae features street.mp4 -o street.safetensors

    Args:
        video: Video file, folder of images, or a quoted glob.
        out: .safetensors (under the name "features") or .npy.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        layer: Block whose output is taken; -1 is the last, after the final normalisation.
        normalize: Scale every feature to unit length.
        batch_size: Frames encoded together.
        device: cuda, mps, cpu; the fastest there is if not given.
        dtype: Of the weights and features; .npy has no bfloat16.
    """
    from siammae.features import extract_features
    from siammae.output import check_output, write_features
    from siammae.video import read_frames

    if check_output(out, (".safetensors", ".npy")) == ".npy" and dtype == "bfloat16":
        raise ValueError(f"{out}: .npy files have no bfloat16; write .safetensors or choose another dtype")
    frames = read_frames(video)
    encoder = load(model, pretrained, device, dtype)
    values = extract_features(frames, encoder, size=encoder_size(size), layer=layer, normalize=normalize, batch_size=batch_size)
    write_features(out, values)
    print(f"features: {out} {list(values.shape)} {dtype}")


def demo(
    out: Out = Path("siammae-demo"),
    model: str = DEFAULT_MODEL,
    frames: int = 24,
    size: tuple[int, ...] = (),
    device: str | None = None,
) -> None:
    """Render a short clip of moving animals, propagate the first mask, and score the result against the known masks.

    Example: siammae demo -o demo

    Args:
        out: Folder for the clip, the masks and the overlay.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        frames: Length of the clip.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        device: cuda, mps, cpu; the fastest there is if not given.
    """
    from siammae.evaluation.metrics import mean_region_similarity
    from siammae.output import write_mask, write_video
    from siammae.propagation import propagate_labels
    from siammae.synthetic import render_clip
    from siammae.visualize import overlay

    if frames < 3:
        raise ValueError(f"--frames is {frames}; expected at least 3: the first and the last are not scored")
    encoder = load(model, device=device)
    clip = render_clip(frames)
    masks = propagate_labels(clip.frames, clip.masks[0], encoder, size=encoder_size(size))
    (out / "masks").mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(masks):
        write_mask(out / "masks" / f"{index:05d}.png", mask)
    write_video(out / "clip.mp4", clip.frames, clip.fps)
    write_video(out / "overlay.mp4", map(overlay, clip.frames, masks), clip.fps)
    for label in range(1, int(clip.masks.max()) + 1):
        score = mean_region_similarity(clip.masks == label, masks == label)
        print(f"object {label}: J {score:.3f} over {frames - 2} frames (first and last dropped)")
    print(f"clip: {out / 'clip.mp4'}\nmasks: {out / 'masks'}\noverlay: {out / 'overlay.mp4'}")


def _config(preset: str, changes: tuple[str, ...]) -> Any:
    from siammae.config import PropagationConfig, read_changes

    return PropagationConfig.preset(preset, **read_changes(changes))


COMMANDS = demo, propagate, keypoints, features
