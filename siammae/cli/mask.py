"""The commands that make a first mask: `frame` gives a frame to paint on, `mask` draws shapes or fits them to the object."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from siammae.cli.options import PICTURES, Model, Out, Video, read_numbered


def frame(video: Video, out: Out, frame: int = 0) -> None:
    """Write one frame of a video as a picture, to paint a mask on or to read coordinates from.

    Example: siammae frame horse.mp4 -o frame.png

    Args:
        out: Picture to write: .png or .jpg.
        frame: Number of the frame.
    """
    from siammae.files import check_output
    from siammae.geometry import frame_size
    from siammae.video.pictures import write_picture

    check_output(out, PICTURES)
    (picture,) = read_numbered(video, [frame])
    write_picture(out, picture)
    height, width = frame_size(picture)
    print(f"frame {frame}: {out}, {width} x {height} pixels (width x height)")


def mask(
    video: Video,
    shapes: Annotated[Positional[tuple[str, ...]], arg(metavar="SHAPE")],
    out: Out,
    model: Model,
    frame: int = 0,
    fit: bool = False,
    overlay: Path | None = None,
) -> None:
    """Make the mask of one frame from boxes, ellipses and polygons in pixels of the frame.

    Shapes get the ids 1, 2, ... in their order; 3=box:... names the id. A shape covers the earlier ones under it.

    With --fit a model finds the object in each box, or under each rough ellipse or polygon, and the mask follows its edges.
    plus:X,Y and minus:X,Y add places to the object of the shape before them, or take them away. Look at the result: this
    helps to mark an object, it was not trained to segment.

    Example: siammae mask horse.mp4 box:210,80,420,310 polygon:30,60,80,40,90,120 -o horse.png --overlay look.png

    Args:
        shapes: Shapes to draw: box:LEFT,TOP,RIGHT,BOTTOM, ellipse:LEFT,TOP,RIGHT,BOTTOM or polygon:X,Y,X,Y,X,Y,...; with
            --fit also plus:X,Y and minus:X,Y.
        out: PNG to write the mask to.
        frame: Number of the frame that the mask is for.
        fit: Fit the mask to the object in each shape.
        overlay: Picture to write too, with the mask drawn over the frame: .png or .jpg.
    """
    from siammae.files import check_output
    from siammae.geometry import frame_size
    from siammae.labels.masks import write_mask
    from siammae.labels.shapes import draw_shapes
    from siammae.video.pictures import write_picture
    from siammae.visualize.masks import overlay as draw_masks

    check_output(out, (".png",))
    if overlay is not None:
        check_output(overlay, PICTURES)
    (picture,) = read_numbered(video, [frame])
    if fit:
        from siammae.prompts import Segmenter, read_words

        prompts = read_words(shapes, frame_size(picture))
        ids = Segmenter(model.load(), picture, size=model.input_size).segment(**prompts).astype("uint16")
    else:
        ids = draw_shapes(shapes, frame_size(picture))
    write_mask(out, ids)
    print(f"mask: {out}")
    if overlay is not None:
        write_picture(overlay, draw_masks(picture, ids, numbers=True))
        print(f"overlay: {overlay}")
