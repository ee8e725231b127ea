"""Cut-outs keep the objects, leave nothing of the background, and come back with their transparency from every kind of file."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.labels import write_mask
from siammae.visualize import cut_out, write_cut_outs

SIZE = 48, 64


def video() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames [5, 48, 64, 3] and masks [5, 48, 64] of two discs that move over a bright ground."""
    rows, columns = np.indices(SIZE)
    frames = np.full((5, *SIZE, 3), (230, 240, 120), dtype=np.uint8)
    masks = np.zeros((5, *SIZE), dtype=np.uint8)
    for t in range(5):
        for label, center, color in ((1, (16, 14 + 3 * t), (200, 40, 40)), (2, (34, 48 - 3 * t), (30, 60, 210))):
            disc = np.hypot(rows - center[0], columns - center[1]) < 10
            masks[t][disc], frames[t][disc] = label, color
    return frames, masks


def decoded(path: Path, decoder: str | None = None) -> list[NDArray[np.uint8]]:
    """The pictures [H, W, 4] of a film; FFmpeg's own VP9 decoder leaves alpha out, so that libvpx is asked by name."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        context = av.CodecContext.create(decoder, "r") if decoder else stream.codec_context
        frames = [frame for packet in container.demux(stream) if packet.size for frame in context.decode(packet)]
        return [frame.to_ndarray(format="rgba") for frame in [*frames, *context.decode(None)]]


def test_a_cut_out_keeps_the_objects_and_nothing_else() -> None:
    frames, masks = video()
    picture = cut_out(frames[0], masks[0])
    inside = masks[0] > 0
    np.testing.assert_array_equal(picture[..., 3], inside * 255)
    np.testing.assert_array_equal(picture[inside][:, :3], frames[0][inside])
    assert not picture[~inside].any()
    np.testing.assert_array_equal(cut_out(frames[0], masks[0], [2])[..., 3], (masks[0] == 2) * 255)


def test_soft_labels_are_the_opacity() -> None:
    frames, _ = video()
    soft = np.zeros((2, *SIZE), dtype=np.float32)
    soft[0, :24], soft[1, :12] = 0.4, 0.2
    assert np.unique(cut_out(frames[0], soft)[..., 3]).tolist() == [0, 102, 153]
    assert np.unique(cut_out(frames[0], soft, [1])[..., 3]).tolist() == [0, 51]


def test_pictures_are_written_exactly(tmp_path: Path) -> None:
    frames, masks = video()
    write_cut_outs(tmp_path / "out", frames, masks)
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{t:05d}.png" for t in range(5)]
    for t, file in enumerate(files):
        np.testing.assert_array_equal(np.array(Image.open(file)), cut_out(frames[t], masks[t]))


@pytest.mark.parametrize(("name", "decoder"), [("film.webm", "libvpx-vp9"), ("film.mov", None)])
def test_films_keep_alpha_and_colors(name: str, decoder: str | None, tmp_path: Path) -> None:
    frames, masks = video()
    write_cut_outs(tmp_path / name, frames, masks, fps=12)
    pictures = decoded(tmp_path / name, decoder)
    assert len(pictures) == 5
    for t, picture in enumerate(pictures):
        inside = masks[t] > 0
        assert ((picture[..., 3] > 127) == inside).mean() > 0.99
        for label in (1, 2):
            disc = masks[t] == label
            middle = np.median(picture[disc][:, :3], axis=0) - frames[t][disc][0]
            assert np.abs(middle).max() < 12
    with av.open(str(tmp_path / name)) as container:
        (stream,) = container.streams.video
        assert stream.average_rate == 12
        assert stream.codec_context.codec.canonical_name == ("prores" if name == "film.mov" else "vp9")


def test_webm_says_that_it_has_alpha(tmp_path: Path) -> None:
    write_cut_outs(tmp_path / "film.webm", *video())
    assert bytes.fromhex("53c08101") in (tmp_path / "film.webm").read_bytes()  # AlphaMode 1, without which players ignore it


def test_odd_sizes_and_chosen_objects(tmp_path: Path) -> None:
    frames, masks = video()
    write_cut_outs(tmp_path / "film.webm", frames[:, :47, :63], masks[:, :47, :63], ids=[2])
    pictures = decoded(tmp_path / "film.webm", "libvpx-vp9")
    assert pictures[0].shape == (47, 63, 4)
    assert ((pictures[0][..., 3] > 127) == (masks[0, :47, :63] == 2)).mean() > 0.99


def refuses(match: str, path: Path, *args: Any, error: type[Exception] = ValueError, **options: Any) -> None:
    before = sorted(path.parent.iterdir()) if path.parent.exists() else []
    with pytest.raises(error, match=match):
        write_cut_outs(path, *args, **options)
    assert (sorted(path.parent.iterdir()) if path.parent.exists() else []) == before


def test_bad_input_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    frames, masks = video()
    refuses(r"ends in \.mp4; expected \.mov, \.webm, or a folder", tmp_path / "film.mp4", frames, masks)
    refuses(r"no mask holds the ids \[3\]; the ids of the objects are \[1, 2\]", tmp_path / "a.webm", frames, masks, ids=[1, 3])
    refuses("has no frame for 2 masks", tmp_path / "a.webm", frames[:3], masks)
    refuses("has no frame for 2 masks", tmp_path / "out", frames[:3], masks)
    refuses("is 48 x 63 pixels, its mask 48 x 64", tmp_path / "a.mov", frames[:, :, 1:], masks)
    refuses("no such folder of masks", tmp_path / "a.mov", frames, tmp_path / "nowhere", error=FileNotFoundError)
    refuses("there is no folder", tmp_path / "nowhere" / "a.mov", frames, masks, error=FileNotFoundError)
    (tmp_path / "here").mkdir()
    refuses("exists; remove it, or choose another folder", tmp_path / "here", frames, masks, error=FileExistsError)
    refuses("fps is -1", tmp_path / "a.mov", frames, masks, fps=-1)
    with pytest.raises(ValueError, match="the mask is 48 x 64 pixels; expected 47 x 64"):
        cut_out(frames[0, :47], masks[0])
    with pytest.raises(ValueError, match=r"ids has 0, the background"):
        cut_out(frames[0], masks[0], [0])
    with pytest.raises(ValueError, match=r"ids has \[2\]; expected channels of the soft labels, 0 to 1"):
        cut_out(frames[0], np.zeros((2, *SIZE), np.float32), [2])


def test_masks_of_part_of_a_video_meet_their_frames(tmp_path: Path) -> None:
    frames, masks = video()
    (tmp_path / "masks").mkdir()
    for t in (2, 3):
        write_mask(tmp_path / "masks" / f"{t:05d}.png", masks[t])
    write_cut_outs(tmp_path / "out", frames, tmp_path / "masks")
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == ["00002.png", "00003.png"]
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "00003.png")), cut_out(frames[3], masks[3]))
