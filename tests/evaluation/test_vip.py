"""VIP: part masks in the official layout, and IoU against cases worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.evaluation import Vip, evaluate
from siammae.evaluation.datasets.vip import CLASSES
from siammae.evaluation.metrics import confusion_matrix, intersection_over_union
from siammae.synthetic import render_clip


def write(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def tree(root: Path, videos: dict[str, list[NDArray[np.generic]]], listed: list[str] | None = None) -> Path:
    """VIP_Fine with the given annotations, grey, and frames that show nothing."""
    for name, masks in videos.items():
        for index, mask in enumerate(masks, start=1):
            write(root / "Annotations" / "Category_ids" / name / f"{index:012d}.png", mask)
            write(root / "Images" / name / f"{index:012d}.jpg", np.zeros((*mask.shape, 3)))
    (root / "lists").mkdir()
    (root / "lists" / "val_videos.txt").write_text("".join(f"{name}\n" for name in listed or videos))
    return root


def halves(left: int, right: int) -> NDArray[np.uint8]:
    """A mask [4, 8] of two classes."""
    mask = np.full((4, 8), left, dtype=np.uint8)
    mask[:, 4:] = right
    return mask


def test_confusion_and_iou_by_hand() -> None:
    gt, pred = np.array([[0, 0, 1, 255]], dtype=np.uint8), np.array([[0, 1, 1, 2]], dtype=np.uint8)
    confusion = confusion_matrix(gt, pred, 4)
    assert confusion.sum() == 3  # the void does not count
    assert confusion[0, 0] == confusion[0, 1] == confusion[1, 1] == 1
    assert intersection_over_union(confusion) == pytest.approx([0.5, 0.5, np.nan, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match="predicted ids run from 0 to 2; expected 0 to 1"):
        confusion_matrix(gt, pred, 2)
    with pytest.raises(ValueError, match=r"expected two of integers \[H, W\]"):
        confusion_matrix(gt, pred[:, :3], 4)


def test_accuracy_and_weighted_iou_by_loops(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truths, preds = (random.integers(0, 6, (2, 3, 20, 30)).astype(np.uint8) for _ in range(2))
    preds[:, :, 4:] = truths[:, :, 4:]
    truths[1, 0, :3] = 255
    names = "videos1", "videos2"
    root = tree(tmp_path / "VIP_Fine", {name: list(masks) for name, masks in zip(names, truths, strict=True)})
    for name, masks in zip(names, preds, strict=True):
        for index, mask in enumerate(masks, start=1):
            write(tmp_path / "pred" / name / f"{index:012d}.png", mask)

    def by_loops(pairs: list[tuple[int, int]]) -> tuple[float, float]:
        accuracy = sum(gt == pred for gt, pred in pairs) / len(pairs)
        weighted = 0.0
        for label in range(20):
            frequency = sum(gt == label for gt, _ in pairs) / len(pairs)
            either = sum(label in pair for pair in pairs)
            if frequency:
                weighted += frequency * sum(gt == pred == label for gt, pred in pairs) / either
        return accuracy, weighted

    videos = [
        [(int(g), int(p)) for g, p in zip(gt.ravel(), pred.ravel(), strict=True) if g != 255]
        for gt, pred in zip(truths, preds, strict=True)
    ]
    means = Vip(root).score(tmp_path / "pred").means
    assert (means["pixel accuracy"], means["FWIoU"]) == pytest.approx(by_loops(videos[0] + videos[1]), abs=1e-12)
    per_video = np.mean([by_loops(pairs) for pairs in videos], axis=0)
    assert (means["pixel accuracy per video"], means["FWIoU per video"]) == pytest.approx(per_video, abs=1e-12)


def test_scores_pool_the_pixels_of_all_videos(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "VIP_Fine",
        {"videos1": [halves(0, 4)] * 2, "videos2": [halves(0, 13)], "videos3": [halves(1, 2)]},
        ["videos1", "videos2"],
    )
    write(tmp_path / "pred" / "videos1" / f"{1:012d}.png", halves(0, 4))
    write(tmp_path / "pred" / "videos1" / f"{2:012d}.png", halves(4, 4))
    write(tmp_path / "pred" / "videos2" / f"{1:012d}.png", np.zeros((2, 4)))  # another size
    scores = Vip(root).score(tmp_path / "pred")
    assert list(scores.confusion) == ["videos1", "videos2"]
    background, clothes, face = 32 / (48 + 16), 32 / 48, 0.0
    assert scores.class_ious[[0, 4, 13]] == pytest.approx([background, clothes, face])
    assert scores.pooled == pytest.approx((background + clothes + face) / 3)
    assert scores.videos == pytest.approx({"videos1": (16 / 32 + 32 / 48) / 2, "videos2": (16 / 32 + 0) / 2})
    assert scores.headline == ("mIoU", scores.pooled)
    per_video = Vip(root, per_video=True).score(tmp_path / "pred")
    assert per_video.headline == ("mIoU per video", pytest.approx(np.mean(list(scores.videos.values()))))
    assert "| upper-clothes | 66.7 |" in scores.table()
    assert "hat" not in scores.table()
    assert len(CLASSES) == 20


def test_what_is_missing_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"lacks 2 files or folders: Images, Annotations/Category_ids\. Expected VIP_Fine"
    ):
        Vip(tmp_path).find()
    root = tree(
        tmp_path / "VIP_Fine", {"videos1": [halves(0, 4)] * 2, "videos2": [halves(0, 4)] * 2}, ["videos1", "videos2", "videos9"]
    )
    (root / "Images" / "videos1" / f"{2:012d}.jpg").unlink()
    (root / "Annotations" / "Category_ids" / "videos2" / f"{1:012d}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 3 .*videos1/0+2\.jpg.*videos2/0+1\.png.*Category_ids/videos9"):
        Vip(root).find()


def test_masks_that_are_missing_or_of_no_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "VIP_Fine", {"videos1": [halves(0, 4)] * 2})
    (tmp_path / "pred").mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 files or folders: videos1/0+1\.png, videos1/0+2\.png"):
        Vip(root).score(tmp_path / "pred")
    for index in (1, 2):
        write(tmp_path / "pred" / "videos1" / f"{index:012d}.png", halves(0, 40))
    with pytest.raises(ValueError, match=r"0+1\.png: predicted ids run from 0 to 40; expected 0 to 19"):
        Vip(root).score(tmp_path / "pred")


@pytest.mark.parametrize("protocol", ["best", "cropmae"])
def test_parts_are_carried_through_a_video(tmp_path: Path, protocol: str) -> None:
    clip = render_clip(4, (64, 96), num_objects=2)
    root = tree(tmp_path / "VIP_Fine", {"videos1": [mask * 6 for mask in clip.masks]})
    for path, frame in zip(sorted((root / "Images" / "videos1").iterdir()), clip.frames, strict=True):
        Image.fromarray(frame).save(path, quality=95)
    size = (64, 96) if protocol == "cropmae" else None
    evaluation = evaluate(Vip(root), tmp_path / "out", "vitt8d6", protocol=protocol, size=size)
    assert evaluation is not None
    assert evaluation.scores.headline[1] > 0.6
    first = np.array(Image.open(tmp_path / "out" / "predictions" / "videos1" / f"{1:012d}.png"))
    exact = np.array_equal(first, clip.masks[0] * 6)
    assert exact == (protocol == "best")  # the scripts write what the grid has left of it
    assert np.mean(first == clip.masks[0] * 6) > 0.9
