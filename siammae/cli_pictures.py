"""The commands that draw what a model sees."""

from typing import Annotated

from tyro.conf import Positional, arg

from siammae.cli_options import Json, Out, encoder_size, load, print_json, read_numbered
from siammae.registry import DEFAULT_MODEL

PICTURES = ".png", ".jpg", ".jpeg"


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
    from siammae.output import check_output, write_picture
    from siammae.visualize import contact_sheet, draw_heat, draw_keypoints
    from siammae.visualize import correspondence as find

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


COMMANDS = attention, correspondence
