"""The commands that draw a model's view of a video: attention, correspondence, features as colours, reconstructions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from siammae.cli.options import PICTURES, Json, Model, Out, Video, print_json, read_numbered
from siammae.models.registry import EMBEDDED, REGISTRY, WEIGHTS_FOLDER

if TYPE_CHECKING:
    from torch import Tensor

ENLARGED = 288  # side in pixels that small crops are enlarged to
FITTED = 32  # number of frames, at most, that the colours are fitted to


def attention(video: Video, out: Out, model: Model, frame: int = 0, layer: int = -1) -> None:
    """Draw where each head's CLS token looks in one frame.

    Example: siammae attention dog.mp4 -o attention.png --frame 30

    Args:
        out: Picture to write, the frame and a map for each head: .png or .jpg.
        frame: Number of the frame.
        layer: Block to draw the attention of; -1 is the last.
    """
    from siammae.files import check_output
    from siammae.video.pictures import write_picture
    from siammae.visualize.maps import attention_maps, draw_heat
    from siammae.visualize.sheets import contact_sheet

    check_output(out, PICTURES)
    (picture,) = read_numbered(video, [frame])
    maps = attention_maps(picture, model.load(), size=model.input_size, layer=layer)
    write_picture(out, contact_sheet([picture, *(draw_heat(picture, heat) for heat in maps)], columns=4))
    print(f"attention: {out}, {len(maps)} heads")


def correspondence(
    video: Video,
    point: Annotated[Positional[tuple[float, float]], arg(metavar="X Y")],
    out: Out,
    model: Model,
    frame: int = 0,
    others: tuple[int, ...] = (1,),
    layer: int = -1,
    as_json: Json = False,
) -> None:
    """Find and draw a point of one frame in other frames, by the similarity of features alone.

    Example: siammae correspondence dog.mp4 310 142 -o points.png --others 10 20 30

    Args:
        point: Place of the point in pixels; 0 0 is the centre of the top left pixel.
        out: Picture to write, the frame with the point and the other frames with their similarity and best match: .png or .jpg.
        frame: Number of the frame that the point is in.
        others: Numbers of the frames to find the point in.
        layer: Block to take the features of; -1 is the last.
    """
    from siammae.files import check_output
    from siammae.video.pictures import write_picture
    from siammae.visualize.maps import correspondence as find
    from siammae.visualize.maps import draw_heat
    from siammae.visualize.points import draw_keypoints
    from siammae.visualize.sheets import contact_sheet

    check_output(out, PICTURES)
    first, *rest = read_numbered(video, [frame, *others])
    encoder = model.load()
    pictures, best = [draw_keypoints(first, [point])], []
    for number, picture in zip(others, rest, strict=True):
        matches, similarities = find(first, [point], picture, encoder, size=model.input_size, layer=layer)
        pictures.append(draw_keypoints(draw_heat(picture, similarities[0]), matches))
        x, y = matches[0].tolist()
        best.append({"frame": number, "x": x, "y": y, "similarity": float(similarities[0].max())})
    write_picture(out, contact_sheet(pictures, columns=4))
    if as_json:
        print_json(best)
        return
    for match in best:
        print("frame {frame}: x {x:.1f}, y {y:.1f}, cosine similarity {similarity:.3f}".format_map(match))
    print(f"correspondence: {out}")


def pca(video: Video, out: Out, model: Model, layer: int = -1) -> None:
    """Draw features as colours, the same in every frame: their principal components as red, green and blue.

    Example: siammae pca dog.mp4 -o pca.mp4

    Args:
        out: Video to write, .mp4 or .gif; or picture of a few frames above their features, .png or .jpg.
        layer: Block to take the features of; -1 is the last.
    """
    import numpy as np

    from siammae.features import extract_features, project
    from siammae.files import check_output
    from siammae.geometry import frame_size
    from siammae.video.encode import write_video
    from siammae.video.frames import read_frames
    from siammae.video.pictures import write_picture
    from siammae.video.progress import progress_bar
    from siammae.visualize.colors import FeatureColors
    from siammae.visualize.sheets import contact_sheet

    suffix = check_output(out, (".mp4", ".gif", *PICTURES))
    frames, encoder = read_frames(video), model.load()
    some = list(frames[:: spread_step(len(frames), FITTED)])
    projected = encoder.projection is not None and layer == -1

    def grids(shown: "list[Tensor]", progress: bool | None) -> "Tensor":
        features = extract_features(shown, encoder, size=model.input_size, layer=layer, progress=progress)
        return project(encoder, features) if projected else features

    features = grids(some, None)
    colors, full = FeatureColors(features), frame_size(some[0])
    if suffix in PICTURES:
        columns = np.unique(np.linspace(0, len(some) - 1, 4).round().astype(int)).tolist()
        pictures = [*(some[i] for i in columns), *colors(features[columns], full)]
        write_picture(out, contact_sheet(pictures, len(columns)))
    else:
        stream = progress_bar(frames, frames.length, "pca", None)
        shown = (colors(grids([frame], False), full)[0] for frame in stream)
        write_video(out, shown, frames.fps or 25, pixel_aspect=frames.pixel_aspect)
    print(f"pca: {out}, fitted to {len(some)} frames")


def spread_step(num_frames: int, most: int) -> int:
    """Return the lowest power of two n for which every n-th frame makes at most `most` frames."""
    step = 1
    while num_frames > most * step:
        step *= 2
    return step


def reconstruct(
    video: Video,
    out: Out,
    frame: int = 0,
    gap: int = 12,
    model: str = "vitt8d6",
    mask_ratio: float | None = None,
    seed: int = 0,
) -> None:
    """Draw the task of training: a past frame, a mostly masked future frame, its reconstruction, and the future frame.

    Example: siammae reconstruct dog.mp4 -o reconstruction.png --frame 30 --gap 8

    Args:
        out: Picture to write: .png or .jpg.
        frame: Number of the past frame; the central square of the frames is used.
        gap: Number of frames from the past to the future frame.
        model: Embedded model, or model folder with its decoder, that was trained on pixels.
        mask_ratio: Share of the future frame to mask; as in the model's training if not given.
        seed: Seed that chooses the masked patches.
    """
    from siammae.files import check_output
    from siammae.training.checkpoint import CheckpointError
    from siammae.training.folder import load_siammae
    from siammae.training.pictures import reconstruct_future
    from siammae.video.pictures import as_picture, write_picture
    from siammae.visualize.sheets import contact_sheet

    check_output(out, PICTURES)
    past, future = map(as_picture, read_numbered(video, [frame, frame + gap]))
    try:
        siammae = load_siammae(_folder(model))
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    pictures = reconstruct_future(siammae, past, future, mask_ratio=mask_ratio, seed=seed)
    scale = max(1, ENLARGED // siammae.config.image_size)
    write_picture(out, contact_sheet(pictures.repeat(scale, axis=1).repeat(scale, axis=2), columns=4))
    print(f"reconstruction: {out}")


def _folder(model: str) -> Path:
    """Return the folder of a model whose files are on this machine."""
    if model in REGISTRY and REGISTRY[model].weights == EMBEDDED:
        return WEIGHTS_FOLDER / model
    if Path(model).is_dir():
        return Path(model)
    raise ValueError(f"no model folder is called {model!r}; expected one, or the name of a model that comes with siammae")
