"""The commands that draw what a model sees: attention, correspondence, features as colours, reconstructions."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from siammae.cli.options import PICTURES, Json, Out, encoder_size, load, pixels, print_json, read_numbered
from siammae.models.registry import DEFAULT_MODEL, EMBEDDED, REGISTRY, WEIGHTS_FOLDER

ENLARGED = 288  # pixels of a side up to which small crops are enlarged
FITTED = 32  # frames at most to which the colours of features are fitted


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
    from siammae.files import check_output
    from siammae.video.pictures import write_picture
    from siammae.visualize.maps import attention_maps, draw_heat
    from siammae.visualize.sheets import contact_sheet

    check_output(out, PICTURES)
    (picture,) = read_numbered(video, [frame])
    maps = attention_maps(picture, load(model, pretrained, device, "float32"), size=encoder_size(size), layer=layer)
    write_picture(out, contact_sheet([picture, *(draw_heat(picture, heat) for heat in maps)], columns=4))
    print(f"attention: {out}, {len(maps)} heads")


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
    as_json: Json = False,
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
    from siammae.files import check_output
    from siammae.video.pictures import write_picture
    from siammae.visualize.maps import correspondence as find
    from siammae.visualize.maps import draw_heat
    from siammae.visualize.points import draw_keypoints
    from siammae.visualize.sheets import contact_sheet

    check_output(out, PICTURES)
    first, *rest = read_numbered(video, [frame, *others])
    encoder = load(model, pretrained, device, "float32")
    pictures, matched = [draw_keypoints(first, [point])], []
    for number, picture in zip(others, rest, strict=True):
        matches, similarities = find(first, [point], picture, encoder, size=encoder_size(size), layer=layer)
        pictures.append(draw_keypoints(draw_heat(picture, similarities[0]), matches))
        x, y = matches[0].tolist()
        matched.append({"frame": number, "x": x, "y": y, "similarity": float(similarities[0].max())})
    write_picture(out, contact_sheet(pictures, columns=4))
    if as_json:
        print_json(matched)
        return
    for match in matched:
        print("frame {frame}: x {x:.1f}, y {y:.1f}, cosine similarity {similarity:.3f}".format_map(match))
    print(f"correspondence: {out}")


def pca(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    out: Out,
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    layer: int = -1,
    device: str | None = None,
) -> None:
    """Draw features as colours, the same in every frame: their principal components as red, green and blue.

    Example: siammae pca dog.mp4 -o pca.mp4

    Args:
        video: Video file, picture, folder of images, or a quoted glob.
        out: .mp4 or .gif for the whole video; .png or .jpg for a few frames in a row above their features.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        layer: Block whose features are drawn; -1 is the last.
        device: cuda, mps, cpu; the fastest there is if not given.
    """
    import numpy as np

    from siammae.features import extract_features
    from siammae.files import check_output
    from siammae.geometry import frame_size
    from siammae.video.encode import write_video
    from siammae.video.frames import read_frames
    from siammae.video.pictures import write_picture
    from siammae.video.progress import progress_bar
    from siammae.visualize.colors import FeatureColors
    from siammae.visualize.sheets import contact_sheet

    suffix = check_output(out, (".mp4", ".gif", *PICTURES))
    frames, encoder = read_frames(video), load(model, pretrained, device)
    some = _spread(frames, FITTED)
    features = extract_features(some, encoder, size=encoder_size(size), layer=layer)
    colours, full = FeatureColors(features), frame_size(some[0])
    if suffix in PICTURES:
        shown = np.unique(np.linspace(0, len(some) - 1, 4).round().astype(int)).tolist()
        write_picture(out, contact_sheet([pixels(some[i]) for i in shown] + [*colours(features[shown], full)], len(shown)))
    else:
        stream = progress_bar(frames, frames.length, "pca", None)
        grids = (extract_features([frame], encoder, size=encoder_size(size), layer=layer, progress=False) for frame in stream)
        write_video(out, (colours(grid, full)[0] for grid in grids), frames.fps or 25)
    print(f"pca: {out}, fitted to {len(some)} frames")


def _spread(frames: Iterable[Any], most: int) -> list[Any]:
    """Every n-th frame, of a sequence of any length, n being the lowest power of two that leaves at most so many."""
    kept, step = [], 1
    for index, frame in enumerate(frames):
        if index % step == 0:
            kept.append(frame)
        if len(kept) > most:
            kept, step = kept[::2], 2 * step
    return kept


def reconstruct(
    video: Annotated[Positional[str], arg(metavar="VIDEO")],
    out: Out,
    frame: int = 0,
    gap: int = 12,
    model: str = DEFAULT_MODEL,
    mask_ratio: float | None = None,
    seed: int = 0,
) -> None:
    """Draw what a model was trained for: a past frame, a mostly masked future frame, its reconstruction, and the future frame.

    Example: siammae reconstruct dog.mp4 -o reconstruction.png --frame 30 --gap 8

    Args:
        video: Video file, folder of images, or a quoted glob; the central square of its frames is taken.
        out: .png or .jpg.
        frame: Number of the past frame.
        gap: Frames from the past to the future frame.
        model: Registered name, or a model folder that was exported with its decoder.
        mask_ratio: Masked share of the future frame; as in its training if not given.
        seed: Of the choice of the masked patches.
    """
    from siammae.files import check_output
    from siammae.training.checkpoint import CheckpointError
    from siammae.training.folder import load_siammae
    from siammae.training.pictures import reconstruct_future
    from siammae.video.pictures import write_picture
    from siammae.visualize.sheets import contact_sheet

    check_output(out, PICTURES)
    past, future = read_numbered(video, [frame, frame + gap])
    try:
        siammae = load_siammae(_folder(model))
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    pictures = reconstruct_future(siammae, past, future, mask_ratio=mask_ratio, seed=seed)
    scale = max(1, ENLARGED // siammae.config.image_size)
    write_picture(out, contact_sheet(pictures.repeat(scale, axis=1).repeat(scale, axis=2), columns=4))
    print(f"reconstruction: {out}")


def _folder(model: str) -> Path:
    """The folder of a model whose files are on this machine."""
    if model in REGISTRY and REGISTRY[model].weights == EMBEDDED:
        return WEIGHTS_FOLDER / model
    if Path(model).is_dir():
        return Path(model)
    raise ValueError(f"no model folder is called {model!r}; expected one, or the name of a model that comes with siammae")


COMMANDS = attention, correspondence, pca, reconstruct
