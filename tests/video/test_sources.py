"""One rule for every source: pages, streams, order, grey, 16 bits, addresses, orientation, aspect, and formats of pictures."""

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from films import HEIGHT, UNITY, WIDTH, distance, picture, with_display_matrix, write
from PIL import Image
from torch import Tensor

from siammae.errors import VideoError
from siammae.features import extract_features
from siammae.labels import as_mask
from siammae.video import as_frame, as_picture, read_frames, read_image, write_video


def equal(found: Any, expected: Any) -> bool:
    return all(np.array_equal(one.permute(1, 2, 0), other) for one, other in zip(found, expected, strict=True))


def save_pages(path: Path, pages: list[Image.Image], **options: Any) -> Path:
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return path


# ------------------------------------------------------------------------------------------------ pictures of several pages


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("tif", {}), ("tiff", {"compression": "tiff_lzw"}), ("png", {}), ("webp", {"lossless": True, "duration": 50})],
)
def test_the_pages_of_a_picture_file_are_frames(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    expected = [picture(index) for index in range(12)]
    source = read_frames(save_pages(tmp_path / f"stack.{suffix}", [Image.fromarray(pixels) for pixels in expected], **options))
    assert equal(source, expected)
    assert len(source) == 12
    assert equal(source.at([7, -1, 0]), [expected[7], expected[11], expected[0]])
    assert equal(source.backwards(5), expected[4::-1])
    assert equal(source[2:9:3], expected[2:9:3])
    assert source.name(3) == "00003"
    assert source.fps == (20 if suffix == "webp" else None)
    with pytest.raises(VideoError, match="holds only 12 frames; frame 12 was asked for"):
        source[12]


def test_pages_are_decoded_one_by_one(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "stack.tif", [Image.fromarray(picture(index)) for index in range(6)])
    with Image.open(path) as stack:
        stack.seek(4)
        offset = stack.tag_v2[273][0]
    data = path.read_bytes()
    path.write_bytes(data[: offset + 100])  # within the pixels of page 4
    frames = iter(read_frames(path))
    assert equal([next(frames) for _ in range(4)], [picture(index) for index in range(4)])
    with pytest.raises(VideoError, match=r"stack\.tif.* cannot be read as a picture"):
        next(frames)


def test_a_stack_of_16_bits_gives_the_upper_8(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, HEIGHT, WIDTH), dtype=np.uint16)
    source = read_frames(save_pages(tmp_path / "stack.tif", [Image.fromarray(page) for page in values]))
    assert equal(source, np.repeat((values >> 8)[..., None], 3, axis=3))


def test_smaller_copies_and_masks_in_a_tiff_file_are_no_frames(tmp_path: Path) -> None:
    small = Image.fromarray(picture(0)).resize((WIDTH // 2, HEIGHT // 2))
    pages = [Image.fromarray(picture(0)), small, Image.fromarray(picture(1)), Image.new("1", (WIDTH, HEIGHT))]
    for page, kind in zip(pages, (0, 1, 0, 4), strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}
    path = save_pages(tmp_path / "stack.tif", pages)
    assert equal(read_frames(path), [picture(0), picture(1)])
    (frame,) = read_frames(save_pages(tmp_path / "pyramid.tif", pages[:2]))
    assert np.array_equal(frame.permute(1, 2, 0), picture(0))


def test_the_still_picture_of_an_animated_png_is_no_frame(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(index)) for index in range(4)]
    path = save_pages(tmp_path / "still.png", pages, default_image=True)
    assert equal(read_frames(path), [picture(1), picture(2), picture(3)])


def test_what_a_phone_stores_behind_a_photo_is_no_frame(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(0)), Image.fromarray(picture(0)).resize((16, 12))]
    path = save_pages(tmp_path / "photo.mpo", pages).rename(tmp_path / "photo.jpg")
    (frame,) = read_frames(path)
    assert distance(frame.permute(1, 2, 0), picture(0)) < 6
    assert read_image(path).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", ["tif", "png", "webp", "gif"])
def test_a_file_of_several_pages_is_no_single_picture(tmp_path: Path, suffix: str) -> None:
    path = save_pages(tmp_path / f"stack.{suffix}", [Image.new("L", (8, 6), shade) for shade in (1, 90)])
    for read in (read_image, as_frame, as_mask, lambda path: list(read_frames([path]))):
        with pytest.raises(VideoError, match=r"stack\.\w+ holds several frames; expected one picture"):
            read(path)


# -------------------------------------------------------------------------------------------------------- streams and order


def write_two_streams(path: Path, preview_first: bool) -> Path:
    """A small preview and the real pictures, which are flagged as default."""
    from av.stream import Disposition

    sizes = [(24, 32), (HEIGHT, WIDTH)] if preview_first else [(HEIGHT, WIDTH), (24, 32)]
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=25) for _ in sizes]
        for stream, (height, width) in zip(streams, sizes, strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.disposition = Disposition.default if height == HEIGHT else Disposition(0)
        for index in range(4):
            for stream, size in zip(streams, sizes, strict=True):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")))
        for stream in streams:
            file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("preview_first", [True, False])
def test_the_video_stream_that_players_show_is_read(tmp_path: Path, suffix: str, preview_first: bool) -> None:
    source = read_frames(write_two_streams(tmp_path / f"two.{suffix}", preview_first))
    frames = list(source)
    assert [frame.shape for frame in frames] == [(3, HEIGHT, WIDTH)] * 4
    assert torch.equal(source[2], frames[2])
    assert distance(frames[3].permute(1, 2, 0), picture(3)) < 8


def test_the_cover_of_a_song_is_no_video(tmp_path: Path) -> None:
    from av.stream import Disposition

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=44100, layout="mono")
        cover = file.add_stream("mjpeg", rate=1, width=WIDTH, height=HEIGHT, pix_fmt="yuvj420p")
        cover.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        packets = cover.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")) + cover.encode(None)
        file.mux([*sound.encode(frame), *sound.encode(None), *packets])
    with av.open(str(path)) as file:
        assert file.streams.video[0].disposition & Disposition.attached_pic
    with pytest.raises(VideoError, match=r"song\.mp4 has no video stream"):
        read_frames(path)


def test_a_glob_over_folders_keeps_each_folder_together(tmp_path: Path) -> None:
    for shade, name in enumerate(["a2/9.png", "a2/10.png", "a10/1.png", "a10/2.png", "b/1.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 6), shade).save(tmp_path / name)
    found = [int(frame.max()) for frame in read_frames(str(tmp_path / "*" / "*.png"))]
    assert found == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------------------------------------------------------- copies


def refill(kind: str) -> Iterator[Any]:
    """A source that writes each frame into the same memory."""
    buffer: Any = np.zeros((HEIGHT, WIDTH, 3), np.uint8) if kind == "array" else torch.zeros(3, HEIGHT, WIDTH)
    for index in range(4):
        pixels = picture(10 * index)
        buffer[:] = pixels if kind == "array" else torch.from_numpy(pixels).permute(2, 0, 1) / 255
        yield buffer


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_frames_that_share_memory_are_kept_apart(encoder: Any, kind: str) -> None:
    expected = extract_features([as_frame(frame) for frame in refill(kind)], encoder, size=32, batch_size=4)
    assert torch.equal(extract_features(refill(kind), encoder, size=32, batch_size=4), expected)
    frames = list(read_frames(refill(kind)))
    assert not torch.equal(frames[0], frames[1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_a_tensor_is_copied_whatever_its_dtype(dtype: torch.dtype) -> None:
    stack = torch.zeros(2, 3, 6, 8, dtype=dtype)
    for source in (stack, [stack[0], stack[1]], iter([stack[0]])):
        for frame in read_frames(source):
            frame.fill_(1)
        picture_of_it = as_picture(stack[0])
        picture_of_it[:] = 1
    assert not stack.any()


# ------------------------------------------------------------------------------------------------------ grey and 16 bits


def grey_sources(values: np.ndarray[Any, Any], folder: Path) -> dict[str, Any]:
    """The same grey frames [T, H, W] in every form; all but uint16 pictures and videos in uint8 too."""
    tensor = torch.from_numpy(values)
    for index, page in enumerate(values):
        Image.fromarray(page).save(folder / f"{index}.png")
    sources = {
        "array [T, H, W]": values,
        "array [T, H, W, 1]": values[..., None],
        "list of [H, W]": list(values),
        "list of [H, W, 1]": list(values[..., None]),
        "tensor [T, H, W]": tensor,
        "tensor [T, 1, H, W]": tensor[:, None],
        "tensors [1, H, W]": [page[None] for page in tensor],
        "generator": (page for page in values),
        "pictures": [Image.fromarray(page) for page in values],
        "folder": folder,
        "stack": save_pages(folder.parent / "stack.tif", [Image.fromarray(page) for page in values]),
    }
    layout = "gray16le" if values.dtype == np.uint16 else "gray"
    with av.open(str(folder.parent / "grey.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25, width=values.shape[2], height=values.shape[1], pix_fmt=layout)
        for page in values:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(page, format=layout)))
        file.mux(stream.encode(None))
    return sources | {"video": folder.parent / "grey.mkv"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_frames_are_the_same_from_every_source(tmp_path: Path, dtype: Any) -> None:
    (tmp_path / "folder").mkdir()
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (4, 34, 46), dtype=dtype)
    upper = (values >> 8 if dtype == np.uint16 else values).astype(np.uint8)
    for name, source in grey_sources(values, tmp_path / "folder").items():
        assert equal(read_frames(source), np.repeat(upper[..., None], 3, axis=3)), name


def test_colours_of_16_bits_give_the_upper_8(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    with av.open(str(tmp_path / "deep.png"), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("png", rate=1, width=WIDTH, height=HEIGHT, pix_fmt="rgb48be")
        frame = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format="rgb48be")
        file.mux(stream.encode(frame) + stream.encode(None))
    for item in (values, torch.from_numpy(values).permute(2, 0, 1), values.astype(">u2"), tmp_path / "deep.png"):
        assert equal([as_frame(item)], [values >> 8])
    for suffix, kind in (("pgm", np.uint16), ("tif", ">u2")):
        Image.fromarray(values[..., 0].astype(kind)).save(tmp_path / f"deep.{suffix}")
        assert equal([as_frame(tmp_path / f"deep.{suffix}")], [np.repeat(values[..., :1] >> 8, 3, axis=2)])


@pytest.mark.parametrize("source", [np.zeros((5, 6, 3), np.uint8), torch.zeros(3, 5, 6), np.zeros((3, 5, 6), np.uint8)])
def test_three_axes_that_may_be_one_picture_are_refused_with_both_remedies(source: Any) -> None:
    with pytest.raises(ValueError, match=r"put a single picture into a list: \[picture\]; give grey frames an axis: frames\["):
        read_frames(source)


def test_float_grey_pictures_are_frames(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((HEIGHT, WIDTH), dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    for item in (values, Image.fromarray(values), tmp_path / "float.tif"):
        assert torch.equal(as_frame(item), torch.from_numpy(values).expand(3, -1, -1))


# ------------------------------------------------------------------------------------------- addresses, aspect, orientation


@pytest.mark.parametrize("address", ["https://example.org/clip.mp4", "rtsp://10.0.0.1/live", "HTTP://example.org/a.png"])
@pytest.mark.parametrize("read", [read_frames, read_image, as_frame, as_mask])
def test_an_address_is_answered_with_what_to_do(address: str, read: Any) -> None:
    with pytest.raises(VideoError, match=r"but only files are read: pass .*allow_network=True.* download .* as an iterator"):
        read(address)


def test_the_address_of_a_file_is_answered_with_its_path() -> None:
    with pytest.raises(VideoError, match=r"is an address; pass the path of the file: /tmp/my clip\.mp4"):
        read_frames("file:///tmp/my%20clip.mp4")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    write(tmp_path / "clip.mp4", [picture(0)])
    for source in ("~/a.png", Path("~/a.png"), "~/*.png", "~", ["~/a.png"]):
        assert equal(read_frames(source), [picture(0)])
    assert len(list(read_frames("~/clip.mp4"))) == 1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif"])
def test_the_aspect_of_pixels_goes_from_a_file_to_its_overlay(tmp_path: Path, suffix: str) -> None:
    aspect = Fraction(3, 2) if suffix == "gif" else Fraction(16, 15)  # GIF holds sixty-fourths
    write_video(tmp_path / "wide.mp4", [picture(0)] * 3, 25, pixel_aspect=aspect)
    path = tmp_path / "wide.mp4"
    if suffix == "gif":
        write_video(tmp_path / "wide.gif", [picture(0)] * 3, 25, pixel_aspect=aspect)
        path = tmp_path / "wide.gif"
    elif suffix == "mkv":
        path = copied(path, tmp_path / "wide.mkv")
    source = read_frames(path)
    assert source.pixel_aspect == source[1:].pixel_aspect == aspect
    assert next(iter(source)).shape == (3, HEIGHT, WIDTH)
    assert read_frames([picture(0)]).pixel_aspect == 1


def copied(path: Path, target: Path) -> Path:
    """The same packets in another container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    return target


def test_a_turned_frame_has_turned_pixels(tmp_path: Path) -> None:
    write_video(tmp_path / "wide.mp4", [picture(0)] * 3, 25, pixel_aspect=Fraction(4, 3))
    data = bytearray((tmp_path / "wide.mp4").read_bytes())
    start = data.index(b"tkhd") + 4 + 76  # the width in the header holds the aspect; the matrix's test wants it plain
    assert int.from_bytes(data[start : start + 4], "big") >> 16 in (WIDTH, WIDTH * 4 // 3 + 1, WIDTH * 4 // 3)
    turned = read_frames(with_display_matrix(tmp_path / "wide.mp4", (0, UNITY, -UNITY, 0)))
    assert next(iter(turned)).shape == (3, WIDTH, HEIGHT)
    assert turned.pixel_aspect == Fraction(3, 4)


@pytest.mark.parametrize("aspect", [0, -1, float("nan"), float("inf"), 1000])
def test_an_aspect_that_is_none_is_refused(tmp_path: Path, aspect: float) -> None:
    with pytest.raises(ValueError, match=r"pixel_aspect is .*expected the width of a pixel divided by its height"):
        write_video(tmp_path / "a.mp4", [picture(0)], 25, pixel_aspect=aspect)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_a_mask_is_turned_as_its_frame_is(tmp_path: Path, orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    ids = np.arange(35, dtype=np.uint16 if mode == "I;16" else np.uint8).reshape(5, 7)
    stored = Image.fromarray(ids)
    if mode == "P":
        stored.putpalette([value for index in range(256) for value in (index, index, index)])
    path = tmp_path / ("mask.tif" if mode == "I;16" else "mask.png")
    stored.save(path, exif=exif)
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "frame.png", exif=exif)
    frame = as_frame(tmp_path / "frame.png")[0].numpy()
    assert np.array_equal(as_mask(path).values, frame)
    if mode == "I;16":
        return  # Pillow itself misreads a turned TIFF file that is opened by its name
    with Image.open(path) as opened:
        given = as_mask(opened)
    assert np.array_equal(given.values, frame)
    assert given.palette == (None if mode != "P" else [value for index in range(256) for value in (index, index, index)])


# ------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg", "x.eps"])
@pytest.mark.parametrize("read", [read_image, as_frame, as_mask, lambda path: list(read_frames([path]))])
def test_a_postscript_file_starts_no_interpreter(tmp_path: Path, name: str, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: started.append(arguments))
    Image.fromarray(picture(0)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / name)
    with pytest.raises(VideoError, match="cannot be read as a picture"):
        read(tmp_path / name)
    assert not started


@pytest.mark.parametrize("format_name", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "JPEG2000"])
def test_pictures_are_known_by_their_content(tmp_path: Path, format_name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.fromarray(picture(0)).save(tmp_path / "a", format=format_name)
        assert distance(as_picture(tmp_path / "a"), picture(0)) < 12


def test_every_picture_of_the_package_is_opened_in_one_place() -> None:
    package = Path(read_frames.__code__.co_filename).parents[1]
    places = [path.name for path in package.rglob("*.py") if "Image.open(" in path.read_text()]
    assert places == ["pictures.py"]


def test_a_page_of_another_size_is_named(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "stack.tif", [Image.new("L", (8, 6)), Image.new("L", (9, 6))])
    with pytest.raises(VideoError, match="frame 00001 is 6 x 9 pixels but the frames before it are 6 x 8"):
        list(read_frames(path))
    assert isinstance(read_frames(path)[1], Tensor)
