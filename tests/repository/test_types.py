"""What a type checker knows of results: an array, a tensor or a list, by what goes in."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from siammae import KeypointPropagator, LabelPropagator, propagate_keypoints, propagate_labels
from siammae.labels import as_mask

Points = NDArray[np.float32]


def masks(array: NDArray[np.uint8], tensor: Tensor, picture: Image.Image) -> None:
    assert_type(propagate_labels("a.mp4", array, size=96, void_id=255), NDArray[Any])
    assert_type(propagate_labels("a.mp4", Path("a.png"), "vits16", start=3), NDArray[Any])
    assert_type(propagate_labels("a.mp4", tensor, config="dino"), Tensor)
    assert_type(propagate_labels("a.mp4", picture, progress=False), list[Image.Image])
    assert_type(propagate_labels("a.mp4", as_mask(array)), Any)
    assert_type(LabelPropagator(array, array).step(array), NDArray[Any])
    assert_type(LabelPropagator(array, "a.png", size=(96, 128)).decode(), NDArray[Any])
    assert_type(LabelPropagator(array, tensor, void_id=0).step(tensor), Tensor)
    assert_type(LabelPropagator(array, picture).decode(), Image.Image)
    assert_type(LabelPropagator(array, as_mask(array)).decode(), Any)


def points(array: NDArray[np.float64], tensor: Tensor) -> None:
    assert_type(propagate_keypoints("a.mp4", array, size=96), tuple[Points, Points])
    assert_type(propagate_keypoints("a.mp4", [[3.5, 4]], start=2), tuple[Points, Points])
    assert_type(propagate_keypoints("a.mp4", tensor, config={"top_k": 3}), tuple[Tensor, Tensor])
    assert_type(KeypointPropagator(array, [(3.5, 4.0)]).step(array), tuple[Points, Points])
    assert_type(KeypointPropagator(array, tensor, size=96).points, Tensor)


propagate_labels("a.mp4", [[0, 1]])  # type: ignore[call-overload]
propagate_labels("a.mp4", "a.png", sise=96)  # type: ignore[call-overload]
KeypointPropagator("a.png", "points.csv")  # type: ignore[arg-type]
"""


def test_types_of_results_follow_what_goes_in(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", tmp_path / "program.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
