"""Robustness: the distorted copies, and J beside the clean frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.cli import main
from siammae.evaluation import Davis, evaluate_robustness
from siammae.evaluation.distortions import DISTORTIONS, write_distorted
from siammae.labels import write_mask
from siammae.synthetic import render_clip

SIZE = 64, 96
BY_NAME = {one.name: one for one in DISTORTIONS}


def tree(root: Path, num_frames: int = 24, names: tuple[str, ...] = ("cat",)) -> Davis:
    for seed, name in enumerate(names):
        clip = render_clip(num_frames, SIZE, num_objects=2, seed=seed)
        for frame, (picture, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
            image = root / "JPEGImages" / "480p" / name / f"{frame:05d}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(image, quality=95)
            path = root / "Annotations" / "480p" / name / f"{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, mask.astype(np.uint8))
    return Davis(root)


def pixels(path: Path) -> NDArray[np.float64]:
    return np.asarray(Image.open(path)).astype(float)


def copy_of(davis: Davis, name: str, root: Path) -> tuple[list[Path], list[Path], list[int]]:
    """Frames, masks and original numbers of the distorted sequence."""
    order = write_distorted(davis.find(), BY_NAME[name], root)
    (sequence,) = Davis(root).find()
    return list(sequence.frames), list(sequence.annotations), order["cat"]


@pytest.mark.parametrize("name", list(BY_NAME))
def test_masks_belong_to_the_frames_that_are_shown(tmp_path: Path, name: str) -> None:
    davis = tree(tmp_path / "DAVIS")
    (clean,) = davis.find()
    frames, masks, order = copy_of(davis, name, tmp_path / "set")
    assert len(frames) == len(masks) == len(order)
    assert order[0] == 0
    for mask, number in zip(masks, order, strict=True):
        assert mask.read_bytes() == clean.annotations[number].read_bytes()
    again, _, _ = copy_of(davis, name, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in frames]


def test_frames_that_only_move_in_time(tmp_path: Path) -> None:
    davis = tree(tmp_path / "DAVIS")
    (clean,) = davis.find()
    for name in ("dropped", "half-speed", "double-speed"):
        frames, _, order = copy_of(davis, name, tmp_path / name)
        assert [path.read_bytes() for path in frames] == [clean.frames[number].read_bytes() for number in order]
    assert copy_of(davis, "half-speed", tmp_path / "a")[2] == [index // 2 for index in range(48)]
    assert copy_of(davis, "double-speed", tmp_path / "b")[2] == list(range(0, 24, 2))
    dropped = copy_of(davis, "dropped", tmp_path / "c")[2]
    assert dropped == sorted(set(dropped))
    assert 12 <= len(dropped) <= 20


def test_pictures_get_worse_as_described(tmp_path: Path) -> None:
    davis = tree(tmp_path / "DAVIS")
    (clean,) = davis.find()
    first, late = pixels(clean.frames[3]), pixels(clean.frames[13])
    noise = pixels(copy_of(davis, "noise", tmp_path / "noise")[0][3]) - first
    assert 12 < noise.std() < 24
    assert abs(noise.mean()) < 4
    exposure = copy_of(davis, "exposure", tmp_path / "exposure")[0]
    assert np.abs(pixels(exposure[3]) - first).mean() < 2
    assert pixels(exposure[13]).mean() == pytest.approx(0.45 * late.mean(), abs=1)
    assert np.abs(pixels(copy_of(davis, "jpeg", tmp_path / "jpeg")[0][3]) - first).mean() > 2
    blurred = pixels(copy_of(davis, "blur", tmp_path / "blur")[0][3])
    assert np.abs(np.diff(blurred, axis=1)).mean() < np.abs(np.diff(first, axis=1)).mean()


def test_j_stands_beside_that_of_the_same_clean_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "DAVIS", 8, ("cat", "dog"))
    out = tmp_path / "out"
    command = ["evaluate", "robustness", str(tmp_path / "DAVIS"), "-o", str(out), "--model", "vitt8d6", "--size", "64"]
    main([*command, "--distortions", "double-speed", "jpeg", "half-speed"])
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:6]] == ["clean", "double-speed", "jpeg", "half-speed"]
    stored = json.loads((out / "robustness.json").read_text())
    clean = json.loads((out / "clean" / "scores.json").read_text())
    assert stored["clean"] == clean["J"]["mean"]
    by_hand = []
    for item in clean["objects"]:
        js = dict(zip(item["frames"], item["j_frames"], strict=True))
        by_hand.append(np.mean([js[number] for number in (2, 4)]))  # frames 0, 2, 4, 6, without the first and the last
    assert stored["distortions"]["double-speed"]["J clean"] == pytest.approx(np.mean(by_hand))
    assert stored["distortions"]["jpeg"]["J clean"] == pytest.approx(stored["clean"])
    fast = json.loads((out / "double-speed" / "scores.json").read_text())
    assert stored["distortions"]["double-speed"]["J"] == pytest.approx(fast["J"]["mean"])
    main([*command, "--distortions", "jpeg", "--resume"])
    assert "jpeg" in capsys.readouterr().out


def test_distortions_that_cannot_be_made(tmp_path: Path) -> None:
    davis = tree(tmp_path / "DAVIS", 5)
    with pytest.raises(ValueError, match="no distortion is called rain, fog; there are dropped, blur"):
        evaluate_robustness(davis, tmp_path / "out", distortions=["rain", "fog"])
    with pytest.raises(ValueError, match=r"cat of .*: fewer than six frames"):
        evaluate_robustness(davis, tmp_path / "out")
