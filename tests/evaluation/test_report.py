"""The report: intervals, noise, attributes and curves of several runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siammae.evaluation import Davis
from siammae.evaluation.bootstrap import bootstrap_mean
from siammae.evaluation.evaluation import SCORES_FILE, write_scores
from siammae.evaluation.report import write_report
from siammae.labels import write_mask


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        interval = bootstrap_mean(random.normal(0.6, 0.2, 30), np.ones(30))
        covered += interval.low <= 0.6 <= interval.high
    assert 0.88 < covered / 200 < 0.99


def test_intervals_are_those_of_the_normal_law_for_many_sequences() -> None:
    scores = np.random.default_rng(1).normal(0.5, 0.1, 400)
    interval = bootstrap_mean(scores, np.ones(400))
    reach = 1.96 * scores.std() / 20
    assert (interval.low, interval.high) == pytest.approx((scores.mean() - reach, scores.mean() + reach), abs=reach / 10)


def test_weights_count_as_so_many_objects() -> None:
    interval = bootstrap_mean(np.array([0.2, 0.8]), np.array([1.0, 3.0]))
    assert interval.mean == pytest.approx(0.65)
    assert (interval.low, interval.high) == (pytest.approx(0.2), pytest.approx(0.8))
    assert bootstrap_mean(np.array([0.3]), np.array([2.0])) == pytest.approx((0.3, 0.3, 0.3))
    for scores, weights in (([], []), ([0.5], [0.0]), ([np.nan], [1.0]), ([0.5, 0.5], [1.0])):
        with pytest.raises(ValueError, match="scores"):
            bootstrap_mean(np.array(scores), np.array(weights))


def square(shift: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, 10 + shift : 30 + shift] = 1
    return mask


def runs(tmp_path: Path, shifts: dict[str, list[int]], attributes: str = "") -> list[Path]:
    """Folders as `evaluate` writes them: predictions that are shifted in each sequence by so many pixels."""
    root = tmp_path / "DAVIS"
    names = [f"s{index:02d}" for index in range(len(next(iter(shifts.values()))))]
    for name in names:
        for frame in range(5):
            for kind in ("JPEGImages", "Annotations"):
                path = root / kind / "480p" / name / f"{frame:05d}.{'jpg' if kind == 'JPEGImages' else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "JPEGImages":
                    Image.new("RGB", (60, 40)).save(path)
                else:
                    write_mask(path, square(0))
    if attributes:
        (root / "Annotations" / "db_info.yml").write_text(attributes)
    folders = []
    for run, own in shifts.items():
        for name, shift in zip(names, own, strict=True):
            for frame in range(5):
                path = tmp_path / run / "predictions" / name / f"{frame:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(path, square(shift))
        davis = Davis(root)
        about = {
            **davis.record(),
            "sequences": names,
            "data_sha256": "0" * 64,
            "protocol": {"name": run, "source": "none", "input": "none"},
            "config": {},
            "model": "m",
            "weights_sha256": "0" * 64,
            "dtype": "float32",
            "versions": {},
            "device": "cpu",
            "speed": None,
            "date": "2026-01-01",
        }
        write_scores(tmp_path / run / SCORES_FILE, davis.score(tmp_path / run / "predictions"), about)
        folders.append(tmp_path / run)
    return folders


def test_a_difference_that_is_noise_is_shown_as_noise(tmp_path: Path) -> None:
    base = [0, 4, 8, 2, 6, 1, 3, 7]
    shifts = {
        "base": base,
        "noise": [4, 0, 2, 8, 1, 6, 7, 3],
        "worse": [shift + 2 for shift in base],
        **{f"run{index}": base for index in range(6)},
    }
    page = write_report(runs(tmp_path, shifts), tmp_path / "page.html").read_text()
    rows = re.findall(r"<tr><td><span[^>]*></span>m, (\w+)</td>\n<td class=\"number\">([\d.]+)</td>(.*?)</tr>", page, re.S)
    rows = [row for row in rows if " to " in row[2]]
    assert [row[0] for row in rows] == list(shifts)
    by_name = {name: (score, rest) for name, score, rest in rows}
    assert "noise" not in by_name["base"][1]
    assert "<td>noise</td>" in by_name["noise"][1]
    assert "<td>beyond noise</td>" in by_name["worse"][1]
    assert "+0.0 to +0.0" in by_name["run0"][1]
    content = json.loads((tmp_path / "base" / SCORES_FILE).read_text())
    assert by_name["base"][0] == f"{100 * content['J&F']:.1f}"
    colors = re.findall(r"stroke=\"([^\"]+)\" stroke-width=\"2\"", page)
    assert len(set(colors)) == len(shifts)  # any number of runs have colors of their own
    assert "decay of J" in page


def test_attributes_stand_in_the_report(tmp_path: Path) -> None:
    attributes = "sequences:\n- {name: s00, attributes: [OCC, FM]}\n- {name: s01, attributes: [OCC]}\n"
    folders = runs(tmp_path, {"a": [0, 4], "b": [4, 4]}, attributes)
    page = write_report(folders, tmp_path / "page.html").read_text()
    rows = dict(re.findall(r"<tr><td>(OCC|FM)</td><td class=\"number\">(\d)</td>", page))
    assert rows == {"FM": "1", "OCC": "2"}
    assert re.search(r"<td>FM</td>.*?100\.0", page, re.S)
