"""Work done ahead of the device: masks by loader workers, micro-batches fetched early, numbers exchanged meanwhile."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from siammae.training.config import AppearanceConfig, DataConfig
from siammae.training.data import Batch, Finish, finished
from siammae.training.data import cache as cache_module
from siammae.training.data.appearance import change_appearance
from siammae.training.data.cache import CachedClip, CachedSource, FrameCache
from siammae.training.data.files import FileSource, find_files
from siammae.training.exchange import Exchange
from siammae.training.masking import MaskDrawer, Masks
from siammae.training.prefetch import Prefetcher

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
DRAW = MaskDrawer("random", grid=4, past_ratio=0.25, future_ratio=0.75, futures=1, seed=3)
FINISH = Finish(DRAW, AppearanceConfig(), seed=3)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of eight frames."""
    root = tmp_path_factory.mktemp("frames")
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        (root / f"clip{number}").mkdir()
        for k in range(8):
            Image.fromarray(np.roll(picture, k, axis=1)).save(root / f"clip{number}" / f"{k}.png")
    return root


def source(frames: Path, workers: int, finish: Finish | None) -> FileSource:
    config = DataConfig(path=str(frames), kind="frames", fps=10, gap=(0.1, 0.5), workers=workers)
    return FileSource(find_files(config), config, size=4, side=16, futures=1, seed=3, pin=False, finish=finish)


def same(left: Masks, right: Masks) -> bool:
    return all(a.equal(b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True))


def test_masks_depend_on_the_number_of_the_micro_batch_alone() -> None:
    assert same(DRAW(4, 7), DRAW(4, 7))
    assert not same(DRAW(4, 7), DRAW(4, 8))
    assert not same(DRAW(4, 7), dataclasses.replace(DRAW, seed=4)(4, 7))
    masks = DRAW(4, 7)
    assert masks.past.visible.shape == (4, 12)
    assert masks.future.visible.shape == (4, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_draw_the_masks_of_their_micro_batches(frames: Path, workers: int) -> None:
    numbers = list(range(1, 12, 3))
    loaded = list(itertools.islice(source(frames, workers, FINISH).micro_batches(1, 3), len(numbers)))
    bare = list(itertools.islice(source(frames, 0, None).micro_batches(1, 3), len(numbers)))
    for number, batch, crops in zip(numbers, loaded, bare, strict=True):
        assert batch.masks is not None
        assert same(batch.masks, DRAW(4, number))
        assert batch.frames.equal(crops.frames)
        assert batch.names == crops.names
        assert crops.masks is None


def test_a_source_that_does_not_finish_its_batches_is_finished_by_their_numbers(frames: Path) -> None:
    late = itertools.islice(finished(source(frames, 0, None), FINISH, 2, 2), 3)
    early = itertools.islice(source(frames, 0, FINISH).micro_batches(2, 2), 3)
    for left, right in zip(late, early, strict=True):
        assert left.masks is not None
        assert right.masks is not None
        assert same(left.masks, right.masks)
        assert left.frames.equal(right.frames)


def batches(loaded: list[int]) -> Iterator[Batch]:
    for number in itertools.count():
        loaded.append(number)
        yield Batch(torch.full((2, 2, 3, 4, 4), number, dtype=torch.uint8), [str(number)] * 2, [], DRAW(2, number))


def test_one_micro_batch_is_ahead_and_none_is_lost() -> None:
    loaded: list[int] = []
    prefetcher = Prefetcher(batches(loaded), CPU)
    assert prefetcher.take().batch.names == ["0", "0"]
    prefetcher.fetch()
    prefetcher.fetch()  # the next one is here already
    assert loaded == [0, 1]
    taken = [int(prefetcher.take().frames[0, 0, 0, 0, 0]) for _ in range(3)]
    assert taken == [1, 2, 3]
    assert loaded == [0, 1, 2, 3]


def test_numbers_of_all_processes_are_exchanged() -> None:
    def gather(mine: Tensor) -> Tensor:
        return torch.cat([mine, torch.tensor([[3.0, 70.0, 1.0]])])

    processes: Any = SimpleNamespace(device=CPU, num_processes=2, gather=gather)
    exchange = Exchange(processes)
    exchange.start(torch.tensor(1.0), 60.5, False)
    assert exchange.finish() == (2.0, 60.5, True)
    exchange.start(torch.tensor(float("nan")), 61.0, False)
    assert np.isnan(exchange.finish()[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_micro_batches_numbers_and_crops() -> None:
    gpu = torch.device("cuda")
    prefetcher = Prefetcher(batches([]), gpu)
    for number in range(4):
        ready = prefetcher.take()
        prefetcher.fetch()
        assert ready.frames.device.type == ready.masks.past.visible.device.type == "cuda"
        assert ready.frames.cpu().eq(number).all()
        assert same(Masks(*(type(mask)(*(index.cpu() for index in mask)) for mask in ready.masks)), DRAW(2, number))
    processes: Any = SimpleNamespace(device=gpu, num_processes=1, gather=lambda mine: mine)
    exchange = Exchange(processes)
    for step in range(4):
        exchange.start(torch.full((), step, device=gpu, dtype=torch.float32), 10.0 * step, step == 3)
        assert exchange.finish() == (step, 10.0 * step, step == 3)
    config = DataConfig(gap=(0.125, 0.5), scale=(0.2, 1.0))
    options: dict[str, Any] = {"size": 8, "side": 16, "futures": 1, "seed": 0}
    cache = cached(3, (40, 56))
    on_gpu, on_cpu = (CachedSource(where, config, **options).micro_batch(2).frames.cpu() for where in (cache.to(gpu), cache))
    torch.testing.assert_close(on_gpu.short(), on_cpu.short(), atol=1, rtol=0)


# --- the cache's gather


def cached(clips: int, side: tuple[int, int], frames: int = 6) -> FrameCache:
    height, width = side
    pixels = torch.randint(0, 256, (clips * frames * height * width, 3), generator=torch.Generator().manual_seed(0))
    places = [CachedClip(str(k), k * frames * height * width, frames, height, width) for k in range(clips)]
    return FrameCache(pixels.to(torch.uint8), tuple(places), 0.125, ())


def crops(source: CachedSource, gathered: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, list[int]]:
    """The crops of a micro-batch as an accelerator makes them, and the pixels of each gather."""
    sizes: list[int] = []
    resample = cache_module.resample

    def counted(frames: Tensor, *arguments: Any) -> Tensor:
        sizes.append(frames.shape[0] * frames.shape[1] * frames.shape[2])
        return resample(frames, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(cache_module, "GATHERED", gathered)
        patched.setattr(cache_module, "resample", counted)
        patched.setattr(CachedSource, "_crop_each", CachedSource._crop_together)
        return source.micro_batch(5).frames, sizes


def test_the_caches_gather_is_cut_into_chunks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(gap=(0.125, 0.5), scale=(0.2, 1.0), jitter=0.2)
    source = CachedSource(cached(3, (40, 56)), config, size=16, side=16, futures=2, seed=0)
    whole, once = crops(source, 10**9, monkeypatch)
    chunked, sizes = crops(source, 5000, monkeypatch)
    assert len(once) == 1
    assert len(sizes) > 10
    assert max(sizes) <= 5000
    torch.testing.assert_close(chunked.short(), whole.short(), atol=1, rtol=0)
    alone, single = crops(source, 1, monkeypatch)
    assert len(single) == 48
    torch.testing.assert_close(alone.short(), whole.short(), atol=1, rtol=0)


# --- color and blur


def sample_frames(side: int = 112) -> Tensor:
    """Four samples of three equal frames of noise [4, 3, 3, side, side], uint8."""
    noise = torch.randint(0, 256, (4, 1, 3, side, side), generator=torch.Generator().manual_seed(1))
    return noise.to(torch.uint8).expand(-1, 3, -1, -1, -1).contiguous()


def test_without_changes_the_frames_are_the_same_tensor() -> None:
    frames = sample_frames()
    assert change_appearance(frames, AppearanceConfig(), [0]) is frames


@pytest.mark.parametrize("change", [{"color": 0.4}, {"blur": 1.0}])
def test_frames_of_a_sample_change_alike_or_apart(change: dict[str, float]) -> None:
    frames = sample_frames()
    shared = change_appearance(frames, AppearanceConfig(**change), [0])
    apart = change_appearance(frames, AppearanceConfig(**change, shared=False), [0])
    for changed in (shared, apart):
        assert changed.shape == frames.shape
        assert changed.dtype == torch.uint8
        assert sum(not changed[k].equal(frames[k]) for k in range(4)) >= 3  # the weakest blur changes nothing
    assert all(shared[k, 0].equal(shared[k, 1]) and shared[k, 0].equal(shared[k, 2]) for k in range(4))
    assert sum(not apart[k, 0].equal(apart[k, 1]) for k in range(4)) >= 3
    assert change_appearance(frames, AppearanceConfig(**change), [0]).equal(shared)
    assert not change_appearance(frames, AppearanceConfig(**change), [1]).equal(shared)


def test_color_changes_stay_within_their_strength() -> None:
    gray = torch.full((64, 2, 3, 8, 8), 100, dtype=torch.uint8)
    changed = change_appearance(gray, AppearanceConfig(color=0.3), [0]).float()
    assert float(changed.min()) >= 70 - 4  # each of four changes may round down by a level
    assert float(changed.max()) <= 130
    assert float(changed.max() - changed.min()) > 40


def test_blur_takes_its_share_of_the_samples_and_keeps_the_mean() -> None:
    frames = sample_frames(64).repeat(50, 1, 1, 1, 1)
    changed = change_appearance(frames, AppearanceConfig(blur=0.5), [0])
    blurred = [not changed[k].equal(frames[k]) for k in range(len(frames))]
    assert 0.2 < np.mean(blurred) < 0.5  # some of the half have a blur too weak to change a level
    torch.testing.assert_close(changed.float().mean(), frames.float().mean(), atol=0.5, rtol=0)
    steps = [(video[..., 1:].float() - video[..., :-1].float()).abs()[blurred].mean() for video in (frames, changed)]
    assert steps[1] < steps[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": 1.5}, r"data\.appearance\.color is 1\.5; expected a share"),
        ({"blur": -0.1}, r"data\.appearance\.blur is -0\.1; expected a share"),
        ({"shared": False}, "set data.appearance.color or blur above 0 too"),
    ],
)
def test_appearance_that_cannot_work_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AppearanceConfig(**change)
