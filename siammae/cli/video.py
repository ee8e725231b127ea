"""The commands that read a whole video: keypoints, features; and demo, which makes one."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from siammae.cli.checks import Readable
from siammae.cli.options import FrameSpan, Model, OnDamage, Out, Propagation, Video, read_span

TRAIL = 15  # positions of a keypoint that are drawn


def keypoints(
    video: Video,
    points: Annotated[Positional[Path], arg(metavar="POINTS"), Readable("table of points")],
    out: Out,
    model: Model,
    propagation: Propagation,
    overlay: Path | None = None,
    start: int = 0,
    frames: FrameSpan = None,
    on_damage: OnDamage = "error",
) -> None:
    """Propagate the keypoints of one frame through a video.

    Example: siammae keypoints dog.mp4 dog-points.csv -o tracks.csv --overlay tracks.mp4

    Args:
        points: CSV with the columns x and y, in pixels, and name if need be, or DeepLabCut's; (0, 0) is the centre of the top
            left pixel. Of a table of several frames, the rows of frame --start count.
        out: CSV to write, with the columns frame, point, x, y, score, and name if POINTS has names.
        overlay: Video to write too, with the points and their last positions drawn over the frames: .mp4 or .gif.
        start: Number of the frame that the points belong to.
    """
    from siammae.files import check_output
    from siammae.labels.keypoints import read_named_points
    from siammae.propagation.keypoints import propagate_keypoints_to_file
    from siammae.video.encode import write_video
    from siammae.video.frames import read_frames
    from siammae.visualize.points import draw_trails

    check_output(out, (".csv",))
    if overlay is not None:
        check_output(overlay, (".mp4", ".gif"))
    (points0, names), config = read_named_points(points, start), propagation.config()
    source, first = read_span(read_frames(video, on_damage=on_damage), frames)
    if frames is not None and not 0 <= start - first < len(source):
        raise ValueError(f"the points belong to frame {start} (--start), which is not among --frames {frames}")
    tracks = propagate_keypoints_to_file(
        source,
        points0,
        out,
        model.load(),
        size=model.input_size,
        config=config,
        start=start - first,
        first=first,
        names=names,
    )
    print(f"keypoints: {out}")
    if overlay is not None:
        trails = (tracks[max(0, end - TRAIL) : end] for end in range(1, len(tracks) + 1))
        pictures = (draw_trails(frame, trail) for frame, trail in zip(source, trails, strict=True))
        write_video(overlay, pictures, source.fps or 25, pixel_aspect=source.pixel_aspect)
        print(f"overlay: {overlay}")


def features(
    video: Video,
    out: Out,
    model: Model,
    layer: int = -1,
    normalize: bool = False,
    batch_size: int = 8,
    frames: FrameSpan = None,
    on_damage: OnDamage = "error",
) -> None:
    """Write the dense features of every frame, [frames, channels, rows, columns].

    Example: siammae features street.mp4 -o street.safetensors

    Args:
        out: File to write: .safetensors (under the name "features"), or .npy, which has no bfloat16.
        layer: Block to take the output of; -1 is the last, after the final normalisation.
        normalize: Scale every feature to unit length.
        batch_size: Number of frames to encode together.
    """
    from siammae.features import extract_features, write_features
    from siammae.files import check_output
    from siammae.video.frames import read_frames

    if check_output(out, (".safetensors", ".npy")) == ".npy" and model.dtype == "bfloat16":
        raise ValueError(f"{out}: .npy files have no bfloat16; write .safetensors or choose another dtype")
    source, _ = read_span(read_frames(video, on_damage=on_damage), frames)
    values = extract_features(
        source, model.load(), size=model.input_size, layer=layer, normalize=normalize, batch_size=batch_size
    )
    write_features(out, values)
    print(f"features: {out} {list(values.shape)} {model.dtype}")


def demo(model: Model, out: Out = Path("siammae-demo"), frames: int = 24) -> None:
    """Render a short clip of moving animals, propagate the first mask, and score the result against the known masks.

    Example: siammae demo -o demo

    Args:
        out: Folder for the clip, the masks and the overlay.
        frames: Number of frames to render.
    """
    from siammae.evaluation.metrics import mean_region_similarity
    from siammae.labels.masks import write_mask
    from siammae.propagation.masks import propagate_labels
    from siammae.synthetic.pond import render_clip
    from siammae.video.encode import write_video
    from siammae.visualize.masks import overlay

    if frames < 3:
        raise ValueError(f"--frames is {frames}; expected at least 3: the first and the last are not scored")
    encoder = model.load()
    clip = render_clip(frames)
    masks = propagate_labels(clip.frames, clip.masks[0], encoder, size=model.input_size)
    (out / "masks").mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(masks):
        write_mask(out / "masks" / f"{index:05d}.png", mask)
    write_video(out / "clip.mp4", clip.frames, clip.fps)
    write_video(out / "overlay.mp4", map(overlay, clip.frames, masks), clip.fps)
    for label in range(1, int(clip.masks.max()) + 1):
        score = mean_region_similarity(clip.masks == label, masks == label)
        print(f"object {label}: J {score:.3f} over {frames - 2} frames (first and last dropped)")
    print(f"clip: {out / 'clip.mp4'}\nmasks: {out / 'masks'}\noverlay: {out / 'overlay.mp4'}")
