"""Data: clips read by time, crops, the frame cache, files and shards; what is drawn depends on nothing but the seed."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import films
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from siammae.training.config import CacheConfig, DataConfig, TrainConfig
from siammae.training.data import Batch, Source
from siammae.training.data.cache import CachedClip, CachedSource, FrameCache, build_cache
from siammae.training.data.clips import Frame, UnusableClip, VideoClip, folder_clip, read_image
from siammae.training.data.crops import Box, moved_box, random_box, resample, resized
from siammae.training.data.files import FileMicroBatches, FileSource, find_files
from siammae.training.data.motion import cell_means, changed_share
from siammae.training.data.samples import crop, draw_crop_pairs, draw_samples, draw_times
from siammae.training.data.source import build_source
from siammae.video import as_picture, read_frames
from siammae.video.decode import VideoDecoder

GREY_STEP = 4


def grey_frames(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    """Frames whose grey level tells their number."""
    return [np.full((height, width, 3), GREY_STEP * number, dtype=np.uint8) for number in range(count)]


def write_video(path: Path, frames: list[Frame], fps: int = 10) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width, stream.pix_fmt = frames[0].shape[0], frames[0].shape[1], "yuv420p"
        stream.bit_rate = 8_000_000
        stream.gop_size = 5
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(frames: Any) -> list[int]:
    """Which frame each picture is."""
    return [round(float(np.asarray(frame).mean()) / GREY_STEP) for frame in frames]


def textured(seed: int, height: int = 48, width: int = 64) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four usable videos, one that is cut short, one that is no video, one of two frames."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_video(folder / f"good{number}.mp4", [np.roll(textured(number), k, axis=1) for k in range(25)])
    write_video(folder / "short.mp4", grey_frames(2))
    (folder / "broken.mp4").write_bytes(b"this is no video" * 100)
    return folder


def take(source: Source, count: int, first: int = 0, stride: int = 1) -> list[Batch]:
    return list(itertools.islice(source.micro_batches(first, stride), count))


def same(left: Batch, right: Batch) -> bool:
    return left.frames.equal(right.frames) and left.names == right.names


def small(path: Path | str, **changes: Any) -> DataConfig:
    return DataConfig(**({"path": str(path), "gap": (0.2, 1.0), "workers": 0} | changes))


COMMON = {"size": 4, "side": 16, "futures": 1, "seed": 0}


# --- clips


@pytest.mark.parametrize("fps", [10, 25])
def test_video_is_read_at_any_time(tmp_path: Path, fps: int) -> None:
    with VideoClip(write_video(tmp_path / "clip.mp4", grey_frames(40), fps)) as clip:
        assert clip.seconds == pytest.approx(39 / fps, abs=1e-3)
        wanted = [0, 7, 8, 22, 39]
        assert numbers(clip.read([(number + 0.4) / fps for number in wanted])) == wanted
        assert numbers(clip.read([3.0 / fps])) == [3]


def test_video_in_memory_is_read_like_a_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", grey_frames(12))
    with VideoClip(path.read_bytes(), "inside.tar:clip") as clip:
        assert clip.name == "inside.tar:clip"
        assert numbers(clip.read([0.55])) == [5]


@pytest.mark.parametrize(
    ("suffix", "delay"), [("mp4", {"bf": "3", "g": "8"}), ("mkv", {"bf": "3", "g": "8"}), ("mp4", {"g": "1"})]
)
@pytest.mark.parametrize("late", [0, 137])
def test_video_with_reordered_frames_is_read_at_any_time(tmp_path: Path, suffix: str, delay: dict[str, str], late: int) -> None:
    times = [late + 4 * number for number in range(30)]
    path = films.write(tmp_path / f"clip.{suffix}", [films.picture(i) for i in range(30)], options=delay, times=times)
    expected = list(read_frames(path))
    with VideoClip(path) as clip:
        for number in [*range(30), 12, 0]:
            (found,) = clip.read([0.04 * number + 0.01])
            assert np.array_equal(found, as_picture(expected[number]))


@pytest.mark.parametrize(("suffix", "distance", "seeks"), [("mp4", 250, 1), ("mp4", 8, 4), ("mkv", 60, 1), ("ts", 8, 4)])
def test_all_times_of_a_visit_are_read_in_one_pass(
    tmp_path: Path, suffix: str, distance: int, seeks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames are those read one at a time; the file is sought only where a key frame lies between two times."""
    pictures = [films.picture(i) for i in range(60)]
    path = films.write(tmp_path / f"clip.{suffix}", pictures, options={"bf": "2", "g": str(distance)})
    times = [1.5, 0.05, 0.07, 2.2, 0.9, 1.5]
    alone = []
    for time in times:
        with VideoClip(path) as clip:
            alone += clip.read([time])
    calls: list[int] = []
    sought = VideoDecoder._frames_from
    monkeypatch.setattr(VideoDecoder, "_frames_from", lambda self, *place: calls.append(place[0]) or sought(self, *place))
    with VideoClip(path) as clip:
        assert np.array_equal(clip.read(times), alone)
        assert len(calls) == seeks
        assert np.array_equal(clip.read(times[::-1]), alone[::-1])


@pytest.mark.parametrize("matrix", [(0, films.UNITY, -films.UNITY, 0), (-films.UNITY, 0, 0, -films.UNITY)])
def test_phone_videos_are_upright(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    stored = films.write(tmp_path / "stored.mp4", [films.picture(i) for i in range(20)], options={"g": "8"})
    turned = films.with_display_matrix(stored, matrix)
    expected = [as_picture(frame) for frame in read_frames(turned)]
    assert not np.array_equal(expected[0][:48, :48], as_picture(read_frames(stored)[0])[:48, :48])
    with VideoClip(turned) as clip:
        assert np.array_equal(clip.read([0.0, 0.5]), [expected[0], expected[12]])
        assert np.array_equal(list(clip.every(0.04, short_side=1000)), expected)
        (small, *_) = clip.every(0.04, short_side=24)
    assert small.shape == ((40, 24, 3) if matrix[0] == 0 else (24, 40, 3))
    assert films.distance(small, Image.fromarray(expected[0]).resize(small.shape[1::-1], Image.Resampling.BOX)) < 4
    with VideoClip(turned.read_bytes(), "in a tar") as clip:
        assert np.array_equal(clip.read([0.5])[0], expected[12])


def test_damage_makes_a_clip_unusable(tmp_path: Path) -> None:
    path = films.write(tmp_path / "clip.mp4", [films.picture(i) for i in range(40)], options={"bf": "0", "g": "10"})
    data, (start, size) = bytearray(path.read_bytes()), films.packets(path)[15]
    data[start + 8 : start + size] = np.random.default_rng(0).bytes(size - 8)
    path.write_bytes(data)
    with VideoClip(path) as clip:
        assert len(clip.read([0.2, 1.0])) == 2
        with pytest.raises(UnusableClip, match=r"clip\.mp4 is damaged: a frame near 0\.56 s cannot be decoded"):
            clip.read([0.7])
        with pytest.raises(UnusableClip, match=r"clip\.mp4 is damaged: frame 15 cannot be decoded"):
            list(clip.every(0.04, short_side=48))


def test_frames_are_taken_at_a_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", grey_frames(40, 48, 96), fps=20)
    with VideoClip(path) as clip:
        frames = list(clip.every(1 / 5, short_side=24))
    assert numbers(frames) == list(range(0, 40, 4))
    assert frames[0].shape == (24, 48, 3)


def test_frame_folder_is_read_by_time(tmp_path: Path) -> None:
    for number, frame in enumerate(grey_frames(12)):
        Image.fromarray(frame).save(tmp_path / f"{number:03d}.png")
    clip = folder_clip(tmp_path, fps=10)
    assert clip.seconds == pytest.approx(1.1)
    assert numbers(clip.read([0.0, 0.5, 1.1])) == [0, 5, 11]


def test_frames_are_in_the_natural_order_of_their_names(tmp_path: Path) -> None:
    for number, frame in enumerate(grey_frames(12)):
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")
    assert numbers(folder_clip(tmp_path, fps=10).read([0.1, 0.2, 1.0])) == [1, 2, 10]


def test_unusable_sources_are_named(tmp_path: Path, videos: Path) -> None:
    with pytest.raises(UnusableClip, match=r"broken\.mp4: not a readable video"):
        VideoClip(videos / "broken.mp4")
    with pytest.raises(UnusableClip, match=r"missing\.png: not a readable image"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(UnusableClip, match="no image in this folder"):
        folder_clip(tmp_path, fps=10)


def test_times_keep_the_gap_and_the_clip() -> None:
    rng = np.random.default_rng(0)
    gaps = []
    for seconds in (0.3, 0.7, 5.0):
        for _ in range(200):
            past, *futures = draw_times(seconds, (0.2, 1.0), 2, rng)
            assert 0 <= past < futures[0] <= futures[1] <= seconds + 1e-9
            assert all(0.2 <= future - past <= 1.0 for future in futures)
            gaps += [future - past for future in futures if seconds == 5.0]
    assert np.mean(gaps) == pytest.approx(0.6, abs=0.05)
    with pytest.raises(UnusableClip, match=r"shorter than the shortest gap of 0\.20 s"):
        draw_times(0.1, (0.2, 1.0), 1, rng)


# --- crops


def test_resampling_the_whole_frame_at_its_size_changes_nothing() -> None:
    frames = torch.from_numpy(textured(0, 20, 20))[None]
    whole = resample(frames, torch.tensor([[20, 20]]), torch.tensor([False]), 20)
    assert whole[0].equal(frames[0].permute(2, 0, 1))
    mirrored = resample(frames, torch.tensor([[20, 20]]), torch.tensor([True]), 20)
    assert mirrored.equal(whole.flip(-1))


@pytest.mark.parametrize(("height", "width", "side"), [(37, 53, 16), (20, 33, 48), (64, 48, 17)])
def test_resampling_agrees_with_pillow(height: int, width: int, side: int) -> None:
    frame = textured(1, height, width)
    padded = np.zeros((1, height + 9, width + 5, 3), dtype=np.uint8)
    padded[0, :height, :width] = frame
    ours = resample(torch.from_numpy(padded), torch.tensor([[height, width]]), torch.tensor([False]), side)
    alone = resized(torch.from_numpy(frame), False, side)
    theirs = np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR))
    for made in (ours[0], alone):
        assert np.abs(made.permute(1, 2, 0).numpy().astype(int) - theirs.astype(int)).max() <= 1
    assert resized(torch.from_numpy(frame), True, side).equal(alone.flip(2))


def test_boxes_have_the_asked_area_and_ratio() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((100, 180), (180, 100), (64, 64), (30, 400)):
        for _ in range(100):
            box = random_box(height, width, (0.5, 1.0), rng, (3 / 4, 4 / 3))
            assert box.top >= 0
            assert box.left >= 0
            assert box.top + box.height <= height
            assert box.left + box.width <= width
            assert 0.72 < box.width / box.height < 1.37
            if width != 400:  # there the whole height is less than half of the area
                assert box.height * box.width > 0.48 * height * width


def test_frames_of_a_sample_share_crop_and_flip() -> None:
    frame = textured(2)
    box = Box(3, 5, 20, 30)
    past, future = crop([(frame, box), (frame, box)], True, 16)
    assert past.equal(future)
    assert past.equal(crop([(frame, box)], False, 16)[0].flip(-1))


def test_moved_boxes_stay_near_and_inside() -> None:
    rng = np.random.default_rng(0)
    box, tops, heights = Box(30, 40, 50, 60), [], []
    for _ in range(300):
        moved = moved_box(box, 100, 160, 0.3, rng)
        assert 0 <= moved.top <= moved.top + moved.height <= 100
        assert 0 <= moved.left <= moved.left + moved.width <= 160
        tops.append(moved.top + moved.height / 2 - 55)
        heights.append(moved.height)
    assert (min(heights), max(heights)) == (35, 65)
    assert -15.5 <= min(tops) < -13 < 13 < max(tops) <= 15.5
    assert moved_box(box, 100, 160, 0.0, rng) == box


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_jitter_moves_the_crops_of_the_futures_alone(jitter: float, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[list[Box]] = []
    monkeypatch.setattr("siammae.training.data.samples.crop", lambda views, flip, side: boxes.append([b for _, b in views]))

    class Still:
        name, seconds, size = "still", 10.0, None

        def read(self, times: list[float]) -> list[Frame]:
            return [textured(0)] * len(times)

    config = DataConfig(jitter=jitter, repeats=20, scale=(0.2, 0.4))
    list(draw_samples(Still(), config, side=16, futures=2, rng=np.random.default_rng(0)))
    moved = [[box != past for box in futures] for past, *futures in boxes]
    assert len(moved) == 20
    assert np.mean(moved) == 0 if jitter == 0 else np.mean(moved) > 0.8


def one_after_the_other(clip: Any, config: DataConfig, *, side: int, futures: int, rng: np.random.Generator) -> list[Tensor]:
    """Draw, read and cut one sample after the other: the definition of `draw_samples`."""
    samples = []
    for _ in range(config.repeats):
        times = draw_times(clip.seconds, config.gap, futures, rng)
        frames = [clip.read([time])[0] for time in times]
        height, width = frames[0].shape[:2]
        box = random_box(height, width, config.scale, rng, config.ratio)
        boxes = [moved_box(box, height, width, config.jitter, rng) for _ in frames[1:]]
        samples.append(crop(list(zip(frames, (box, *boxes), strict=True)), bool(rng.random() < config.flip), side))
    return samples


@pytest.mark.parametrize("kind", ["video", "turned", "folder", "folder of two sizes"])
def test_samples_are_those_drawn_one_after_the_other(tmp_path: Path, kind: str) -> None:
    path = films.write(tmp_path / "clip.mp4", [films.picture(i) for i in range(50)], options={"g": "20"})
    if kind == "turned":
        path = films.with_display_matrix(path, (0, films.UNITY, -films.UNITY, 0))
    if kind.startswith("folder"):
        for number, frame in enumerate(grey_frames(50)):
            cut = frame[: 44 if kind == "folder of two sizes" and number > 24 else 48]
            Image.fromarray(cut).save(tmp_path / f"{number}.png")
    config = DataConfig(gap=(0.2, 1.0), repeats=3, jitter=0.3, scale=(0.2, 0.9))
    for seed in range(5):
        with folder_clip(tmp_path, fps=25) if kind.startswith("folder") else VideoClip(path) as clip:
            common: dict[str, Any] = {"side": 16, "futures": 2}
            expected = one_after_the_other(clip, config, rng=np.random.default_rng(seed), **common)
            drawn = list(draw_samples(clip, config, rng=np.random.default_rng(seed), **common))
        assert torch.stack(drawn).equal(torch.stack(expected))


def test_crop_pairs_show_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masked crop lies inside the visible one."""
    boxes: list[list[Box]] = []
    monkeypatch.setattr("siammae.training.data.samples.crop", lambda views, flip, side: boxes.append([b for _, b in views]))
    rng = np.random.default_rng(0)
    for _ in range(50):
        list(draw_crop_pairs(textured(0), DataConfig(repeats=2), side=16, rng=rng))
    assert len(boxes) == 100
    for outer, inner in boxes:
        assert outer.top <= inner.top
        assert outer.left <= inner.left
        assert inner.top + inner.height <= outer.top + outer.height
        assert inner.left + inner.width <= outer.left + outer.width


# --- files


def test_files_are_found_or_the_search_is_explained(tmp_path: Path, videos: Path) -> None:
    assert [path.name for path in find_files(small(videos))][:2] == ["broken.mp4", "good0.mp4"]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{videos}/good1.mp4\n\n{videos}/good0.mp4\n")
    assert [path.name for path in find_files(small(listed))] == ["good1.mp4", "good0.mp4"]
    with pytest.raises(ValueError, match=r"no videos found under .* ends in \.avi"):
        find_files(small(tmp_path / "."))
    with pytest.raises(ValueError, match="no folder with images"):
        find_files(small(videos, kind="frames"))
    with pytest.raises(ValueError, match="does not exist"):
        find_files(small(tmp_path / "nowhere"))


def test_parts_depend_on_nothing_but_seed_and_number(videos: Path) -> None:
    """Loaded here or by workers, from the start or from the middle, by one process or by two: the same batches."""
    good = sorted(videos.glob("good*"))
    config = small(videos)
    here = take(FileSource(good, config, pin=False, **COMMON), 5)
    workers = FileSource(good, small(videos, workers=2), pin=False, **COMMON)
    assert all(map(same, here, take(workers, 5)))
    assert all(map(same, here[2:], take(FileSource(good, config, pin=False, **COMMON), 3, first=2)))
    assert all(map(same, here[1::2], take(FileSource(good, config, pin=False, **COMMON), 2, first=1, stride=2)))
    assert not same(here[0], take(FileSource(good, config, pin=False, **(COMMON | {"seed": 1})), 1)[0])


def test_an_epoch_visits_every_file_once(videos: Path) -> None:
    good = sorted(videos.glob("good*"))
    micro_batches = FileMicroBatches(good, small(videos), **COMMON)
    for epoch in range(2):
        names = micro_batches[2 * epoch].names + micro_batches[2 * epoch + 1].names
        assert sorted(names) == sorted(2 * [str(path) for path in good])  # repeats: two samples from one visit
    assert micro_batches[0].frames.shape == (4, 2, 3, 16, 16)
    assert micro_batches[0].frames.dtype == torch.uint8


def test_unusable_files_are_replaced_and_reported_once(videos: Path) -> None:
    batches = take(FileSource(find_files(small(videos)), small(videos), pin=False, **COMMON), 12)
    skipped = [Path(name).name for batch in batches for name, _ in batch.skipped]
    assert sorted(skipped) == ["broken.mp4", "short.mp4"]
    reasons = " ".join(reason for batch in batches for _, reason in batch.skipped)
    assert "not a readable video" in reasons
    assert "shorter than the shortest gap" in reasons
    assert all("good" in name for batch in batches for name in batch.names)


def test_no_usable_file_is_an_error(videos: Path) -> None:
    with pytest.raises(ValueError, match=r"no usable file: 2 of 2 tried, such as .*(broken|short)\.mp4"):
        take(FileSource([videos / "broken.mp4", videos / "short.mp4"], small(videos), pin=False, **COMMON), 1)


def test_images_and_frame_folders_give_samples(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(8):
            Image.fromarray(textured(number)).save(tmp_path / folder / f"{number}.png")
    images = small(tmp_path, kind="images")
    assert len(find_files(images)) == 16
    batch = take(FileSource(find_files(images), images, pin=False, **COMMON), 1)[0]
    assert batch.frames.shape == (4, 2, 3, 16, 16)
    frames = small(tmp_path, kind="frames", fps=10)
    assert [path.name for path in find_files(frames)] == ["a", "b"]
    batch = take(FileSource(find_files(frames), frames, pin=False, **(COMMON | {"futures": 3})), 1)[0]
    assert batch.frames.shape == (4, 4, 3, 16, 16)


def test_batch_must_hold_whole_visits(videos: Path) -> None:
    with pytest.raises(ValueError, match=r"no multiple of data\.repeats 3"):
        FileMicroBatches([videos / "good0.mp4"], small(videos, repeats=3), **COMMON)


# --- cache


def test_cache_keeps_every_frame_once_and_is_found_again(videos: Path, tmp_path: Path) -> None:
    files = find_files(small(videos))
    cache = build_cache(files, tmp_path, short_side=24, fps=5)
    assert [Path(clip.name).name for clip in cache.clips] == [f"good{number}.mp4" for number in range(4)]
    assert sorted(Path(name).name for name, _ in cache.skipped) == ["broken.mp4", "short.mp4"]
    first = cache.clips[0]
    assert (first.frames, first.height, first.width) == (13, 24, 32)
    with VideoClip(files[1]) as clip:
        decoded = np.stack(list(clip.every(1 / 5, 24)))
    stored = cache.pixels[first.offset : first.offset + 13 * 24 * 32].view(13, 24, 32, 3)
    assert np.array_equal(stored.numpy(), decoded)
    called: list[int] = []
    again = build_cache(files, tmp_path, short_side=24, fps=5, progress=called.append)
    assert called == []
    assert again.pixels.equal(cache.pixels)
    assert again.clips == cache.clips
    with pytest.raises(ValueError, match=r"none of 1 videos is usable: .*broken\.mp4"):
        build_cache([videos / "broken.mp4"], tmp_path, short_side=24, fps=5)


def test_cached_samples_are_crops_of_their_frames(videos: Path, tmp_path: Path) -> None:
    cache = build_cache(sorted(videos.glob("good*")), tmp_path, short_side=24, fps=5)
    config = DataConfig(gap=(0.2, 1.0), scale=(1.0, 1.0), ratio=(32 / 24, 32 / 24), flip=0.0)
    source = CachedSource(cache, config, size=32, side=24, futures=1, seed=0)
    batch = source.micro_batch(0)
    gaps = set()
    for sample, name in zip(batch.frames, batch.names, strict=True):
        clip = next(clip for clip in cache.clips if clip.name == name)
        stored = cache.pixels[clip.offset : clip.offset + clip.frames * 24 * 32].view(clip.frames, 24, 32, 3)
        views = torch.stack([resized(frame, False, 24) for frame in stored])
        past, future = (int((views == view).flatten(1).all(1).nonzero()[0]) for view in sample)
        gaps.add(future - past)
    jittered = CachedSource(cache, replace(config, scale=(0.3, 0.5), jitter=0.5), size=32, side=24, futures=1, seed=0)
    still = CachedSource(cache, replace(config, scale=(0.3, 0.5)), size=32, side=24, futures=1, seed=0)
    assert not jittered.micro_batch(0).frames.equal(still.micro_batch(0).frames)
    assert gaps == {1, 2, 3, 4, 5}  # 0.2 to 1 second at 5 frames a second
    assert all(map(same, take(source, 3, first=1), [source.micro_batch(1), source.micro_batch(2), source.micro_batch(3)]))


def test_cached_samples_are_the_same_crops_one_by_one_and_together(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build_cache(sorted(videos.glob("good*")), tmp_path, short_side=24, fps=5)
    source = CachedSource(cache, DataConfig(gap=(0.2, 1.0), jitter=0.3), size=16, side=16, futures=2, seed=0)
    each = source.micro_batch(0).frames
    monkeypatch.setattr(CachedSource, "_crop_each", CachedSource._crop_together)  # an accelerator's way
    assert (source.micro_batch(0).frames.int() - each.int()).abs().max() <= 1


def test_cache_needs_a_clip_of_the_shortest_gap(videos: Path, tmp_path: Path) -> None:
    cache = build_cache([videos / "good0.mp4"], tmp_path, short_side=24, fps=5)
    with pytest.raises(ValueError, match="no clip is longer than the shortest gap, 3 s"):
        CachedSource(cache, DataConfig(gap=(3.0, 4.0)), **COMMON)


def memory_cache(*clips: np.ndarray) -> FrameCache:
    """A cache of clips [F, H, W, 3] at 10 frames a second, named by their number."""
    found, offset = [], 0
    for number, clip in enumerate(clips):
        frames, height, width, _ = clip.shape
        found.append(CachedClip(str(number), offset, frames, height, width))
        offset += frames * height * width
    pixels = torch.from_numpy(np.concatenate([clip.reshape(-1, 3) for clip in clips]))
    return FrameCache(pixels, tuple(found), 0.1, ())


def clip_of(frames: int) -> np.ndarray:
    """A clip whose grey level tells the frame's number."""
    return np.stack([np.full((16, 16, 3), number, dtype=np.uint8) for number in range(frames)])


def test_clips_are_drawn_by_the_square_root_of_their_length() -> None:
    cache = memory_cache(clip_of(10), clip_of(40), clip_of(160), clip_of(2))
    source = CachedSource(cache, DataConfig(gap=(0.3, 0.5)), size=4200, side=4, futures=1, seed=0)
    counts = np.unique(source.micro_batch(0).names, return_counts=True)[1]
    assert len(counts) == 3  # the last clip is shorter than the shortest gap
    assert counts / 4200 == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.03)
    weighted = CachedSource(cache, DataConfig(gap=(0.3, 0.5)), size=4200, side=4, futures=1, seed=0, weights={"0": 4})
    counts = np.unique(weighted.micro_batch(0).names, return_counts=True)[1]
    assert counts / 4200 == pytest.approx([4 / 10, 2 / 10, 4 / 10], abs=0.03)


def test_a_gap_is_not_cut_near_the_end_of_a_clip() -> None:
    """Of 8 frames with gaps of 3 to 6, every gap is as frequent as any other, and places leave room for it."""
    source = CachedSource(memory_cache(clip_of(8)), DataConfig(gap=(0.3, 0.6)), size=4000, side=4, futures=1, seed=0)
    past, future = source.micro_batch(0).frames[:, :, 0, 0, 0].long().unbind(1)
    gaps, counts = np.unique((future - past).numpy(), return_counts=True)
    assert list(gaps) == [3, 4, 5, 6]
    assert counts / 4000 == pytest.approx([0.25] * 4, abs=0.03)
    assert int(future.max()) == 7
    short = CachedSource(memory_cache(clip_of(5)), DataConfig(gap=(0.3, 0.6)), size=400, side=4, futures=2, seed=0)
    frames = short.micro_batch(0).frames[:, :, 0, 0, 0].long()
    assert set((frames[:, 2] - frames[:, 0]).tolist()) == {3, 4}
    assert bool((frames[:, 1] <= frames[:, 2]).all())


def test_pairs_that_move_are_preferred() -> None:
    """Half of the frame flickers: crops of the still half are refused, crops of both are kept as often as they move."""
    rng = np.random.default_rng(0)
    clip = np.full((30, 32, 64, 3), 100, dtype=np.uint8)
    clip[:, :, 32:] = rng.integers(0, 2, (30, 1, 1, 1)) * 100 + np.arange(30)[:, None, None, None]
    clip[:, :, 32:] += (np.arange(30) * 37 % 100).astype(np.uint8)[:, None, None, None]
    cache = memory_cache(clip, np.full((30, 32, 64, 3), 50, dtype=np.uint8))
    common: dict[str, Any] = {"gap": (0.3, 0.6), "scale": (0.1, 0.2), "cache": CacheConfig("disk", "x")}

    def still(motion: float) -> float:
        source = CachedSource(cache, DataConfig(**common, motion=motion), size=300, side=8, futures=1, seed=0)
        past, future = source.micro_batch(0).frames.float().unbind(1)
        return float(((past - future).abs().amax(dim=(1, 2, 3)) < 8).float().mean())

    assert still(0.0) > 0.6
    assert still(0.2) < 0.05
    first, again = (
        CachedSource(cache, DataConfig(**common, motion=0.2), size=8, side=8, futures=1, seed=0).micro_batch(3)
        for _ in range(2)
    )
    assert first.frames.equal(again.frames)


def test_a_clip_that_never_moves_still_gives_pairs() -> None:
    cache = memory_cache(np.full((10, 32, 32, 3), 50, dtype=np.uint8))
    config = DataConfig(gap=(0.3, 0.6), cache=CacheConfig("disk", "x"), motion=0.5)
    assert CachedSource(cache, config, size=4, side=8, futures=1, seed=0).micro_batch(0).frames.eq(50).all()


def test_changed_share_counts_the_cells_under_the_crop() -> None:
    frames = torch.zeros(3, 32, 40, 3, dtype=torch.uint8)
    frames[1, :16, :8] = 9  # two of twenty cells
    frames[2] = 7  # below the threshold
    cells = cell_means(frames)
    assert cells.shape == (3, 4, 5, 3)
    assert changed_share(cells, [0, 1], Box(0, 0, 32, 40)) == pytest.approx(2 / 20)
    assert changed_share(cells, [0, 1], Box(0, 0, 16, 8)) == 1
    assert changed_share(cells, [0, 1, 2], Box(0, 0, 16, 16)) == pytest.approx((2 / 4 + 0) / 2)
    assert changed_share(cells, [0, 1], Box(16, 8, 16, 32)) == 0


def test_a_path_listed_twice_is_decoded_once_and_drawn_twice_as_often(videos: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(str(videos / name) for name in ("good0.mp4", "good1.mp4", "good1.mp4")))
    config = TrainConfig(
        output="x", steps=1, data=small(listed, cache=CacheConfig("disk", str(tmp_path), short_side=24, fps=5))
    )
    processes = SimpleNamespace(device=torch.device("cpu"), is_local_main_process=True, wait_for_everyone=lambda: None)
    source = build_source(config, 900, processes, side=8)
    assert source.num_files == 2
    names = next(source.micro_batches(0, 1)).names
    assert names.count(str(videos / "good1.mp4")) == pytest.approx(600, abs=60)


def test_motion_needs_a_cache() -> None:
    with pytest.raises(ValueError, match=r"data\.motion is 0\.3; expected a share, 0 to 1, and with more than 0 a data\.cache"):
        DataConfig(motion=0.3)


def test_links_in_a_data_set_neither_loop_nor_stop_it(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "good.mp4").symlink_to(next(videos.glob("good*")))
    config = small(tmp_path)
    assert [path.name for path in find_files(config)] == ["gone.mp4", "good.mp4"]
    batch = take(FileSource(find_files(config), config, pin=False, **COMMON), 1)[0]
    assert {Path(name).name for name in batch.names} == {"good.mp4"}
