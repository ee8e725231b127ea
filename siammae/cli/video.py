"""The commands that read a video: keypoints, features, demo."""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from siammae.cli.options import Dtype, Out, encoder_size, load, pixels, read_config
from siammae.models.registry import DEFAULT_MODEL

TRAIL = 15  # positions of a keypoint that are drawn


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

    from siammae.files import check_output
    from siammae.labels.keypoints import read_points, write_tracks
    from siammae.propagation.keypoints import KeypointPropagator
    from siammae.propagation.walk import walk
    from siammae.video.encode import write_video
    from siammae.video.frames import read_frames
    from siammae.visualize.points import draw_trails

    check_output(out, (".csv",))
    if overlay is not None:
        check_output(overlay, (".mp4", ".gif"))
    frames, points0 = read_frames(video), read_points(points)
    encoder, config = load(model, pretrained, device, dtype), read_config(preset, set)
    found: dict[int, Any] = {}
    try:
        for index, frame, begins in walk(frames, start, progress=None):
            if begins:
                propagator = KeypointPropagator(frame, points0, encoder, size=encoder_size(size), config=config)
            else:
                propagator.step(frame)
            found[index] = propagator.points, propagator.scores
    finally:  # what was found before damage or Ctrl-C is kept
        if found:
            numbers = sorted(found)
            tracks, scores = (np.stack([found[index][part] for index in numbers]) for part in (0, 1))
            write_tracks(out, tracks, scores, numbers)
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
    from siammae.features import extract_features, write_features
    from siammae.files import check_output
    from siammae.video.frames import read_frames

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
    from siammae.labels.masks import write_mask
    from siammae.propagation.masks import propagate_labels
    from siammae.synthetic.pond import render_clip
    from siammae.video.encode import write_video
    from siammae.visualize.masks import overlay

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
