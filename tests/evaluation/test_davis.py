"""DAVIS scores against cases worked out by hand, and against the definition of F by distances between pixels."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.cli import main
from siammae.evaluation import Davis
from siammae.evaluation.metrics import boundary_accuracy, statistics


def square(top: int, left: int, side: int, size: tuple[int, int] = (40, 60)) -> NDArray[np.bool_]:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def write(folder: Path, frames: list[NDArray[np.generic]]) -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame.astype(np.uint8)).save(folder / f"{index:05d}.png")


def outline_by_definition(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    height, width = mask.shape
    return np.array(
        [
            (y, x)
            for y in range(height)
            for x in range(width)
            if any(
                mask[y + down, x + right] != mask[y, x]
                for down, right in ((0, 1), (1, 0), (1, 1))
                if y + down < height and x + right < width
            )
        ]
    ).reshape(-1, 2)


def accuracy_by_definition(gt: NDArray[np.bool_], pred: NDArray[np.bool_]) -> float:
    radius = math.ceil(0.008 * math.hypot(*gt.shape))
    theirs, ours = outline_by_definition(gt), outline_by_definition(pred)
    distance = np.linalg.norm(theirs[:, None] - ours, axis=2)
    precision, recall = (distance.min(axis=0) <= radius).mean(), (distance.min(axis=1) <= radius).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@pytest.mark.parametrize("size", [(30, 41), (150, 220), (300, 420)])  # disks of radius 1, 3 and 5
def test_boundary_accuracy_agrees_with_its_definition(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    scores = []
    for _ in range(4):
        centre, shift = random.uniform(0, 1, 2) * size, random.uniform(-3, 3, 2)
        rows, columns = np.indices(size)
        gt, pred = (np.hypot(rows - y, (columns - x) / 1.5) < 0.3 * size[0] for y, x in (centre, centre + shift))
        pred[:4, :7] = True  # something of its own, at the edge of the picture
        scores.append(boundary_accuracy(gt, pred))
        assert scores[-1] == pytest.approx(accuracy_by_definition(gt, pred), abs=1e-12)
    assert 0 < max(scores) < 1


def test_boundary_accuracy_of_simple_cases() -> None:
    empty, whole = np.zeros((40, 60), dtype=bool), np.ones((40, 60), dtype=bool)
    one = square(10, 10, 8)
    assert boundary_accuracy(one, one) == 1
    assert boundary_accuracy(empty, empty) == 1
    assert boundary_accuracy(one, empty) == boundary_accuracy(empty, one) == 0
    assert boundary_accuracy(whole, empty) == 1  # neither has an outline
    assert boundary_accuracy(one, square(11, 10, 8)) == 1  # the disk has radius 1 here
    assert boundary_accuracy(one, square(25, 40, 8)) == 0
    with pytest.raises(ValueError, match=r"bool \[40, 60\] and uint8 \[40, 60\]; expected two bool"):
        boundary_accuracy(one, one.astype(np.uint8))  # type: ignore[arg-type]


def test_statistics_by_hand() -> None:
    found = statistics([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert found.mean == pytest.approx(0.5)
    assert found.recall == pytest.approx(0.5)
    assert found.decay == pytest.approx((1.0 + 0.8) / 2 - (0.2 + 0.0) / 2)  # quarters from frame 0 to 1 and from 4 to 5
    assert statistics([1.0] * 300 + [0.0] * 100).decay == pytest.approx(0.99, abs=0.02)  # beyond 256 frames too
    with pytest.raises(ValueError, match="no scores; a sequence needs three frames"):
        statistics([])


def test_scores_of_objects_sequences_and_the_set(tmp_path: Path) -> None:
    empty = np.zeros((40, 60), dtype=np.uint8)
    two = square(5, 5, 10) + 2 * square(20, 30, 10).astype(np.uint8)
    half = square(5, 5, 10) & (np.arange(60) < 10) | np.zeros((40, 1), dtype=bool)
    void = two.copy()
    void[30:, :20] = 255
    write(tmp_path / "gt" / "a", [two, void, two, empty])
    write(tmp_path / "pred" / "a", [empty, half + 2 * square(20, 30, 10).astype(np.uint8), two, two])
    write(tmp_path / "gt" / "b", [255 * square(5, 5, 10).astype(np.uint8)] * 3)  # as DAVIS 2016 stores them
    write(tmp_path / "pred" / "b", [empty, square(5, 5, 10)])  # the last frame need not be there
    scores = Davis(tmp_path / "gt").score(tmp_path / "pred")
    assert [(one.sequence, one.id) for one in scores.objects] == [("a", 1), ("a", 2), ("b", 1)]
    assert scores.objects[0].j_frames == (0.5, 1.0)
    assert scores.objects[1].j_frames == scores.objects[1].f_frames == (1.0, 1.0)
    assert scores.objects[2].j_frames == (1.0,)
    assert scores.j.mean == pytest.approx((0.75 + 1 + 1) / 3)  # over objects, not over sequences
    assert scores.sequences["a"].j.mean == pytest.approx((0.75 + 1) / 2)
    assert scores.j_and_f == pytest.approx((scores.j.mean + scores.f.mean) / 2)
    assert not scores.unknown_ids
    assert len(scores.table().splitlines()) == 2 + 1 + 2 + 2  # the set, two sequences, the two objects of one


def test_ids_without_an_annotation_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "gt" / "a", [square(5, 5, 10)] * 4)
    write(tmp_path / "pred" / "a", [square(5, 5, 10), square(5, 5, 10) + 7 * square(20, 30, 5).astype(np.uint8)] * 2)
    with pytest.warns(UserWarning, match=r"a: ids \[7\] are not in the first annotation"):
        scores = Davis(tmp_path / "gt").score(tmp_path / "pred")
    assert scores.unknown_ids == {"a": (7,)}
    assert scores.j.mean == 1


def test_bad_folders_are_named_before_anything_is_scored(tmp_path: Path) -> None:
    write(tmp_path / "gt" / "a", [square(5, 5, 10)] * 5)
    write(tmp_path / "gt" / "b", [square(5, 5, 10)] * 4)
    write(tmp_path / "pred" / "a", [square(5, 5, 10)] * 3)
    with pytest.raises(
        FileNotFoundError, match=r"lacks 3 files or folders: a/00003\.png, b/00001\.png, b/00002\.png\. Expected"
    ):
        Davis(tmp_path / "gt").score(tmp_path / "pred")
    with pytest.raises(FileNotFoundError, match=r"holds no PNG masks of c; expected"):
        Davis(tmp_path / "gt", ["a", "c"]).score(tmp_path / "pred")
    with pytest.raises(FileNotFoundError, match="holds no PNG masks; expected"):
        Davis(tmp_path / "gt" / "a").score(tmp_path / "pred")
    write(tmp_path / "short" / "a", [square(5, 5, 10)] * 2)
    with pytest.raises(ValueError, match=r"a of .*: fewer than three annotations"):
        Davis(tmp_path / "short").score(tmp_path / "pred")
    write(tmp_path / "nothing" / "a", [np.zeros((40, 60), dtype=bool), *[square(5, 5, 10)] * 4])
    with pytest.raises(ValueError, match=r"00000\.png marks no object"):
        Davis(tmp_path / "nothing").score(tmp_path / "nothing")
    write(tmp_path / "small" / "a", [square(5, 5, 10, (20, 30))] * 5)
    with pytest.raises(ValueError, match="has 20 x 30 pixels; its annotation has 40 x 60"):
        Davis(tmp_path / "gt", ["a"]).score(tmp_path / "small")


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "gt" / "Annotations" / "480p" / "a", [square(5, 5, 10)] * 4)
    write(tmp_path / "gt" / "Annotations" / "480p" / "b", [square(5, 5, 10)] * 4)
    write(tmp_path / "pred" / "a", [square(5, 5, 10)] * 4)
    (tmp_path / "val.txt").write_text("a\n")
    arguments = ["score", "davis", str(tmp_path / "gt"), str(tmp_path / "pred"), "--split", str(tmp_path / "val.txt")]
    main([*arguments, "-o", str(tmp_path / "scores.json")])
    assert "| a | 100.0 | 100.0 | 100.0 | 0.0 | 100.0 | 100.0 | 0.0 |" in capsys.readouterr().out
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["J&F"] == 1
    assert stored["objects"][0]["j_frames"] == [1, 1]
    assert len(stored["pred"]["sha256"]) == 64


def test_json_needs_no_masks_but_those_that_count(tmp_path: Path) -> None:
    write(tmp_path / "gt" / "a", [square(5, 5, 10)] * 3)
    write(tmp_path / "pred" / "a", [square(5, 5, 10)] * 2)
    (tmp_path / "pred" / "overlays").mkdir()
    command = ["score", "davis", str(tmp_path / "gt"), str(tmp_path / "pred"), "-o", str(tmp_path / "scores.json")]
    digests = []
    for top in (5, 6):
        Image.fromarray(square(top, 5, 10).astype(np.uint8)).save(tmp_path / "pred" / "a" / "00001.png")
        main(command)
        stored = json.loads((tmp_path / "scores.json").read_text())
        digests.append((stored["gt"]["sha256"], stored["pred"]["sha256"]))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_real_annotations_score_themselves(real_data: Path) -> None:
    annotations = real_data / "davis2016" / "Annotations" / "480p"
    scores = Davis(real_data / "davis2016", ["dog", "camel"]).score(annotations)
    assert scores.j_and_f == 1
