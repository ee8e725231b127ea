"""The `siammae` command: thin typed functions over the public ones, made into commands by tyro.

What a command needs is imported inside it, so that help is instant.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from siammae.cli_models import COMMANDS
from siammae.evaluation.commands import evaluate_app, score_app
from siammae.registry import DEFAULT_MODEL

app = SubcommandApp()

Out = Annotated[Path, arg(aliases=["-o"])]
Dtype = Literal["float32", "float16", "bfloat16"]

PICTURES = ".png", ".jpg", ".jpeg"


def main() -> None:
    """Run the command line; exit code 2 for bad usage or input, 1 for a failure, 130 after Ctrl-C."""
    warnings.showwarning = lambda message, *_: print(f"siammae: warning: {message}", file=sys.stderr)
    try:
        app.cli(prog="siammae", description="Carry labels through video with self-supervised features.")
    except KeyboardInterrupt:
        _stop("interrupted; masks and keypoints that were finished are kept", 130)
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        _stop(str(error), 2)
    except BrokenPipeError:  # whoever read the output has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (OSError, ImportError) as error:
        from siammae.tensors import WeightsError

        _stop(str(error), 2 if isinstance(error, WeightsError) else 1)


def _stop(message: str, code: int) -> None:
    print(f"siammae: {message}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)


@app.command
def propagate(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    mask: Annotated[Positional[Path], arg(metavar="MASK")],
    out: Out,
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
    """Carry the mask of one frame through a video.

    Example: siammae propagate horse.mp4 horse.png -o masks --overlay horse-overlay.mp4

    Args:
        video: Video file, folder of images, or a quoted glob.
        mask: PNG with the ids of the labelled frame: indexed, or grey.
        out: Folder for one indexed PNG a frame.
        overlay: Also write the masks drawn over the frames: .mp4 or .gif.
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
    from siammae.decoding import VideoError
    from siammae.labels import as_mask
    from siammae.output import check_output, write_video
    from siammae.runs import propagate_to_folder, read_run
    from siammae.video import read_frames
    from siammae.visualize import overlay as draw_masks

    if overlay is not None:
        check_output(overlay, (".mp4", ".gif"))
    frames = read_frames(video)
    encoder = _load(model, pretrained, device, dtype)
    config = _config(preset, set)
    labels = as_mask(mask)

    def report() -> None:
        print(f"masks: {out}")
        if overlay is not None:
            pictures = (draw_masks(_pixels(frame), ids, labels.palette) for frame, ids in read_run(frames, out))
            write_video(overlay, pictures, frames.fps or 25)
            print(f"overlay: {overlay}")

    try:
        propagate_to_folder(
            frames, labels, out, encoder, size=_size(size), config=config, start=start, void_id=void_id, resume=resume
        )
    except VideoError:  # the frames before the damage have their masks, and are shown too
        if (out / f"{frames.name(0)}.png").exists():
            report()
        raise
    report()


@app.command
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
        overlay: Also write the points drawn over the frames: .mp4 or .gif.
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
    from siammae.visualize import draw_keypoints

    check_output(out, (".csv",))
    if overlay is not None:
        check_output(overlay, (".mp4", ".gif"))
    frames, points0 = read_frames(video), read_keypoints(points)
    encoder = _load(model, pretrained, device, dtype)
    found: dict[int, Any] = {}
    try:
        for index, track in track_keypoints(
            frames, points0, encoder, size=_size(size), config=_config(preset, set), start=start
        ):
            found[index] = track
    finally:  # what was found before damage or Ctrl-C is kept
        if found:
            numbers = sorted(found)
            tracks, scores = (np.stack([found[index][part].numpy() for index in numbers]) for part in (0, 1))
            write_keypoints(out, tracks, scores, numbers)
    print(f"keypoints: {out}")
    if overlay is not None:
        pictures = (draw_keypoints(_pixels(frame), track) for frame, track in zip(frames, tracks, strict=True))
        write_video(overlay, pictures, frames.fps or 25)
        print(f"overlay: {overlay}")


@app.command
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
    encoder = _load(model, pretrained, device, dtype)
    values = extract_features(frames, encoder, size=_size(size), layer=layer, normalize=normalize, batch_size=batch_size)
    write_features(out, values)
    print(f"features: {out} {list(values.shape)} {dtype}")


@app.command
def attention(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    out: Out,
    frame: int = 0,
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    layer: int = -1,
    device: str | None = None,
) -> None:
    """Draw what each head's CLS token looks at in one frame.

    Example: siammae attention dog.mp4 -o attention.png --frame 30

    Args:
        video: Video file, picture, folder of images, or a quoted glob.
        out: .png or .jpg: the frame, then a map for each head.
        frame: Number of the frame.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frame, or height and width.
        layer: Block whose attention is drawn; -1 is the last.
        device: cuda, mps, cpu; the fastest there is if not given.
    """
    from siammae.output import check_output, write_picture
    from siammae.visualize import attention_maps, contact_sheet, draw_heat

    check_output(out, PICTURES)
    (picture,) = _frames(video, [frame])
    maps = attention_maps(picture, _load(model, pretrained, device, "float32"), size=_size(size), layer=layer)
    write_picture(out, contact_sheet([picture, *(draw_heat(picture, heat) for heat in maps)], columns=4))
    print(f"attention: {out}, {len(maps)} heads")


@app.command
def correspondence(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    point: Annotated[Positional[tuple[float, float]], arg(metavar="X Y")],
    out: Out,
    frame: int = 0,
    others: tuple[int, ...] = (1,),
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    layer: int = -1,
    device: str | None = None,
) -> None:
    """Draw where a point of one frame is in others, by the similarity of features alone.

    Example: siammae correspondence dog.mp4 310 142 -o points.png --others 10 20 30

    Args:
        video: Video file, folder of images, or a quoted glob.
        point: Its place in pixels; 0 0 is the centre of the top left pixel.
        out: .png or .jpg: the frame with the point, then the other frames under their similarity to it, with the best match.
        frame: Number of the frame that the point is in.
        others: Numbers of the frames in which it is looked for.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        layer: Block whose features are compared; -1 is the last.
        device: cuda, mps, cpu; the fastest there is if not given.
    """
    from siammae.output import check_output, write_picture
    from siammae.visualize import contact_sheet, draw_heat, draw_keypoints
    from siammae.visualize import correspondence as find

    check_output(out, PICTURES)
    first, *rest = _frames(video, [frame, *others])
    encoder = _load(model, pretrained, device, "float32")
    pictures = [draw_keypoints(first, [point])]
    for number, picture in zip(others, rest, strict=True):
        matches, similarities = find(first, [point], picture, encoder, size=_size(size), layer=layer)
        pictures.append(draw_keypoints(draw_heat(picture, similarities[0]), matches))
        x, y = matches[0]
        print(f"frame {number}: x {x:.1f}, y {y:.1f}, cosine similarity {similarities[0].max():.3f}")
    write_picture(out, contact_sheet(pictures, columns=4))
    print(f"correspondence: {out}")


@app.command
def train(
    config: Annotated[Positional[Path], arg(metavar="CONFIG")],
    values: Annotated[Positional[tuple[str, ...]], arg(metavar="KEY=VALUE")] = (),
) -> None:
    """Pretrain an encoder on videos; run it under torchrun or accelerate launch for several processes.

    Example: siammae train small.yaml data.path=videos output=runs/small max_minutes=60

    Args:
        config: YAML file, such as those in examples/training.
        values: Single values in place of the file's, such as model.decoder=cross.
    """
    from siammae.training.checkpoint import CheckpointError
    from siammae.training.config import load_config
    from siammae.training.loop import TrainingStopped
    from siammae.training.loop import train as run_training

    try:
        print(f"checkpoint: {run_training(load_config(config, values))}")
    except (CheckpointError, TrainingStopped) as error:
        _stop(str(error), 1)


@app.command
def env() -> None:
    """Say what this machine can use: versions, devices, how matrices are multiplied, which video formats are read."""
    import platform
    from importlib import metadata

    import av
    import torch

    from siammae import __version__
    from siammae.matmul import onednn_is_faster
    from siammae.ops.operator import IMPLEMENTATIONS, unavailable
    from siammae.pretrained import default_device

    print(f"siammae {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("torch", "torchvision", "timm", "huggingface_hub", "safetensors", "av", "numpy", "triton"):
        try:
            print(f"{package}: {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"{package}: not installed")
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"CUDA device: {cuda}; MPS: {'yes' if torch.backends.mps.is_available() else 'no'}; default: {default_device()}")
    product = "oneDNN" if onednn_is_faster() else "torch's default"
    print(f"CPU: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, float32 products by {product}")
    codecs = [name for name in ("h264", "hevc", "vp9", "av1", "gif", "prores") if name in av.codecs_available]
    print(f"video codecs: {', '.join(codecs)}")
    for name in IMPLEMENTATIONS:
        print(f"propagation by {name}: {unavailable(name, default_device()) or 'yes'}")


@app.command
def bench(
    grids: tuple[str, ...] = ("30x53", "60x107"),
    frames: tuple[int, ...] = (8, 20),
    radii: tuple[int, ...] = (12, 20),
    models: tuple[str, ...] = ("vits16", "vits8"),
    device: str | None = None,
    threads: int | None = None,
    rounds: int = 5,
    seconds: float = 60,
    out: Annotated[Path | None, arg(aliases=["-o"])] = None,
) -> None:
    """Measure label propagation against the operations of DINO's and CRW's scripts, alone and as whole frames at 480p.

    Example: siammae bench --grids 30x53 --frames 8 --radii 12 --models vits16

    Args:
        grids: Rows x columns of cells.
        frames: Context frames.
        radii: Of the windows, in cells.
        models: Registered names for whole frames, run with their initial weights; none leaves whole frames out.
        device: cuda, mps, cpu; the fastest there is if not given.
        threads: Of the CPU; torch's own choice if not given.
        rounds: Measurements of each contestant, whose median is shown.
        seconds: After so long a comparison ends, with fewer rounds.
        out: JSON file for the figures.
    """
    import json

    import torch

    from siammae.benchmark import run
    from siammae.output import atomic, check_output
    from siammae.pretrained import default_device

    if out is not None:
        check_output(out, (".json",))
    if threads is not None:
        torch.set_num_threads(threads)
    found = run(
        [_grid(grid) for grid in grids],
        frames,
        radii,
        models,
        torch.device(device) if device else default_device(),
        rounds=rounds,
        seconds=seconds,
        report=lambda line: print(line, flush=True),
    )
    if out is not None:
        with atomic(out) as draft:
            draft.write_text(json.dumps(found, indent=2) + "\n")


@app.command
def demo(
    out: Out = Path("siammae-demo"),
    model: str = DEFAULT_MODEL,
    frames: int = 24,
    size: tuple[int, ...] = (),
    device: str | None = None,
) -> None:
    """Render a short clip of moving animals, propagate the first mask, and score the result against the known masks.

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
    encoder = _load(model, True, device, "float32")
    clip = render_clip(frames)
    masks = propagate_labels(clip.frames, clip.masks[0], encoder, size=_size(size))
    (out / "masks").mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(masks):
        write_mask(out / "masks" / f"{index:05d}.png", mask)
    write_video(out / "clip.mp4", clip.frames, clip.fps)
    write_video(out / "overlay.mp4", map(overlay, clip.frames, masks), clip.fps)
    for label in range(1, int(clip.masks.max()) + 1):
        score = mean_region_similarity(clip.masks == label, masks == label)
        print(f"object {label}: J {score:.3f} over {frames - 2} frames (first and last dropped)")
    print(f"clip: {out / 'clip.mp4'}\nmasks: {out / 'masks'}\noverlay: {out / 'overlay.mp4'}")


for _command in COMMANDS:
    app.command(_command)

app.command(evaluate_app, name="evaluate", help="Predict the labels of a whole data set and score them.")
app.command(score_app, name="score", help="Score labels that anybody predicted for a data set.")


def _size(numbers: tuple[int, ...]) -> Any:
    """What `--size` stands for: nothing, the shorter side, or height and width."""
    return None if not numbers else numbers[0] if len(numbers) == 1 else numbers


def _grid(text: str) -> tuple[int, int]:
    """(h, w) of text such as 30x53."""
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise ValueError(f"--grids {text}: expected rows x columns, such as 30x53")
    return int(rows), int(columns)


def _load(model: str, pretrained: bool, device: str | None, dtype: str) -> Any:
    import torch

    from siammae.pretrained import load_model

    return load_model(model, pretrained=pretrained, device=device, dtype=getattr(torch, dtype))


def _config(preset: str, changes: tuple[str, ...]) -> Any:
    from siammae.config import PropagationConfig, read_changes

    return PropagationConfig.preset(preset, **read_changes(changes))


def _pixels(frame: Any) -> Any:
    return frame.permute(1, 2, 0).numpy()


def _frames(video: str, numbers: list[int]) -> list[Any]:
    """The frames [H, W, 3] of these numbers, in their order, each read once."""
    from siammae.video import read_frames

    if min(numbers) < 0:
        raise ValueError(f"frame {min(numbers)}: expected the number of a frame, 0 or more")
    found: dict[int, Any] = {}
    for index, frame in enumerate(read_frames(video)):
        if index in numbers:
            found[index] = _pixels(frame)
        if index == max(numbers):
            return [found[number] for number in numbers]
    raise ValueError(f"{video} has only {index + 1} frames; frame {max(numbers)} was asked for")


if __name__ == "__main__":
    main()
