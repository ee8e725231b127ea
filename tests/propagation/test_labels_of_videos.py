"""Several videos at a time: by generators, one after another; and in several threads, with one model."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from siammae import Encoder, LabelPropagator, extract_features, load_model, propagate_keypoints, propagate_labels, read_frames
from siammae.features import iter_features
from siammae.propagation import Scores, iter_labels
from siammae.video import write_video


def shifted(texture: NDArray[np.uint8], seed: int, size: tuple[int, int] = (64, 96)) -> NDArray[np.uint8]:
    """A video [4, *size, 3] of a window that slides over the texture."""
    top = seed * 16
    return np.stack([texture[top : top + size[0], 8 * t : 8 * t + size[1]] for t in range(4)])


def mask(seed: int, size: tuple[int, int] = (64, 96)) -> NDArray[np.uint8]:
    ids = np.zeros(size, np.uint8)
    ids[16:48, 32 + 8 * seed : 64 + 8 * seed] = 1 + seed
    return ids


def test_features_of_several_videos_come_one_after_another(texture: NDArray[np.uint8], encoder: Encoder) -> None:
    read: list[int] = []

    def videos() -> Iterator[Any]:
        for seed, size in enumerate([(64, 96), (96, 64), (64, 64)]):
            read.append(seed)
            yield shifted(texture, seed, size)

    grids = iter_features(videos(), encoder, size=64, layer=0, normalize=True)
    first = next(grids)
    assert read == [0]  # the second is not touched before it is asked for
    assert torch.equal(first, extract_features(shifted(texture, 0), encoder, size=64, layer=0, normalize=True))
    assert [list(grid.shape) for grid in grids] == [[4, 192, 6, 4], [4, 192, 4, 4]]


def test_masks_of_several_videos_come_one_after_another(texture: NDArray[np.uint8], encoder: Encoder) -> None:
    videos, masks = [shifted(texture, seed) for seed in range(3)], [mask(seed) for seed in range(3)]
    for seed, propagated in enumerate(iter_labels(videos, iter(masks), encoder, size=64, start=1)):
        np.testing.assert_array_equal(propagated, propagate_labels(videos[seed], masks[seed], encoder, size=64, start=1))
    _, scores = next(iter_labels(videos, masks, encoder, size=64, return_scores=True))
    assert isinstance(scores, Scores)


def test_videos_without_masks_and_masks_without_videos_are_refused(texture: NDArray[np.uint8], encoder: Encoder) -> None:
    videos, masks = [shifted(texture, seed) for seed in range(2)], [mask(seed) for seed in range(2)]
    with pytest.raises(ValueError, match="there are 2 videos and 1 masks"):
        iter_labels(videos, masks[:1], encoder, size=64)
    with pytest.raises(ValueError, match="there are only 1 masks, but more videos"):
        list(iter_labels(videos, iter(masks[:1]), encoder, size=64))
    with pytest.raises(ValueError, match="there are more masks than videos"):
        list(iter_labels(iter(videos[:1]), masks, encoder, size=64))


def test_a_list_of_videos_is_answered_with_what_takes_one(texture: NDArray[np.uint8], encoder: Encoder, tmp_path: Any) -> None:
    video = shifted(texture, 0)
    write_video(tmp_path / "a.mp4", video, 25)
    for videos in ([video, video], [torch.zeros(2, 3, 32, 32)], [read_frames(video)], [tmp_path / "a.mp4"], [str(tmp_path)]):
        with pytest.raises(ValueError, match=r"the list holds videos; .*iter_features or siammae\.propagation\.iter_labels"):
            extract_features(videos, encoder)
    assert extract_features(list(video), encoder, size=64).shape[0] == 4


def in_threads(count: int, work: Any) -> list[Any]:
    """Run work(0), work(1), ... in threads that begin at the same moment."""
    barrier = Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_threads_share_a_model(texture: NDArray[np.uint8], encoder: Encoder) -> None:
    """What docs/services.md promises: an Encoder is for all threads, a propagator for one."""
    videos, masks = [shifted(texture, seed) for seed in range(4)], [mask(seed) for seed in range(4)]

    def work(number: int) -> tuple[Any, ...]:
        features = extract_features(videos[number], encoder, size=64)
        labels = propagate_labels(videos[number], masks[number], encoder, size=64, config={"foreign_below": 0})
        points, _ = propagate_keypoints(
            videos[number], [(40, 30), (20.5, 8)], encoder, size=64, config={"foreign_below": 0, "point_lost_below": 0}
        )
        return features, torch.from_numpy(labels), torch.from_numpy(points)

    alone = [work(number) for number in range(4)]
    for _ in range(3):
        for results, expected in zip(in_threads(4, work), alone, strict=True):
            assert all(torch.equal(result, right) for result, right in zip(results, expected, strict=True))


def test_threads_keep_their_gradients_and_their_propagators(texture: NDArray[np.uint8], encoder: Encoder) -> None:
    """Some threads propagate without gradients while others train with them: neither sees the other's state."""
    images = encoder.preprocess(shifted(texture, 0), size=64)

    def work(number: int) -> Any:
        if number % 2:
            features = encoder(images)
            assert features.requires_grad
            return features.detach()
        propagator = LabelPropagator(shifted(texture, number)[0], mask(number), encoder, size=64)
        return [torch.from_numpy(propagator.step(frame)) for frame in shifted(texture, number)[1:]]

    alone = [work(number) for number in range(4)]
    for number, result in enumerate(in_threads(4, work)):
        for one, other in zip(result, alone[number], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_threads_read_one_video(texture: NDArray[np.uint8], tmp_path: Any) -> None:
    """Files and arrays may be read by several threads at once, in order or by number."""
    write_video(tmp_path / "a.mp4", shifted(texture, 0), 25)
    frames = read_frames(tmp_path / "a.mp4")
    expected = [list(read_frames(tmp_path / "a.mp4"))[number] for number in (3, 0, 2, 1)]
    for pictures in in_threads(4, lambda number: list(frames) if number % 2 else frames.at([3, 0, 2, 1])):
        order = pictures if torch.equal(pictures[0], expected[0]) else [pictures[number] for number in (3, 0, 2, 1)]
        assert all(torch.equal(one, other) for one, other in zip(order, expected, strict=True))


def test_threads_may_load_models(texture: NDArray[np.uint8]) -> None:
    digests = in_threads(3, lambda _: load_model("vitt8d6-features").digest())
    assert len(set(digests)) == 1
