"""The lines of examples/training/ablations.md: each is a run that trains, and differs from the base in what it names."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from siammae.training.config import config_to_dict, load_config
from siammae.training.log import read_log
from siammae.training.loop import train
from siammae.training.sweep import read_sweep

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2] / "examples" / "training"
BASE = ROOT / "k400-vits16-400.yaml"
ROW = re.compile(r"^\| (?P<name>[^|]+) \| (?:`(?P<line>[^`]+)`)? *\|$", re.MULTILINE)
ROWS = [(match["name"], match["line"] or "") for match in ROW.finditer((ROOT / "ablations.md").read_text())]
# a small run of the same recipe: one block, 49 or 196 patches, four pairs
TINY = [
    *("data.kind=frames", "data.fps=10", "data.workers=0", "model.depth=1", "model.decoder_depth=1", "model.image_size=112"),
    *("batch_size=4", "accumulation=1", "epochs=null", "steps=2", "optim.warmup=0", "log_every=1"),
    *("compile=false", "precision=float32", "device=cpu"),
]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of forty frames: four seconds."""
    root = tmp_path_factory.mktemp("frames")
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 256, (72, 96, 3), dtype=np.uint8)
        (root / f"clip{number}").mkdir()
        for k in range(40):
            Image.fromarray(np.roll(picture, k, axis=1)).save(root / f"clip{number}" / f"{k:02d}.png")
    return root


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_the_page_and_the_sweep_have_the_same_lines() -> None:
    lines = yaml.safe_load((ROOT / "sweeps" / "ablations.yaml").read_text())
    assert [line for _, line in ROWS] == lines
    assert len(ROWS) > 35
    assert len(read_sweep(BASE, ROOT / "sweeps" / "ablations.yaml", Path("out"))) == len(lines)


@pytest.mark.parametrize("line", [line for _, line in ROWS], ids=[name for name, _ in ROWS])
def test_a_line_changes_what_it_names_and_nothing_else(line: str) -> None:
    base, changed = (flat(config_to_dict(load_config(BASE, overrides))) for overrides in ([], line.split()))
    named = {override.partition("=")[0] for override in line.split()}
    assert {name for name in base if base[name] != changed[name]} == named


@pytest.mark.parametrize("line", [line for _, line in ROWS], ids=[name for name, _ in ROWS])
def test_a_line_trains(line: str, frames: Path, tmp_path: Path) -> None:
    tiny = [change for change in TINY if not ("decoder_depth" in change and "decoder_depth" in line)]
    checkpoint = train(load_config(BASE, [*line.split(), *tiny, f"data.path={frames}", f"output={tmp_path}"]))
    assert checkpoint.name == "checkpoint-0000002"
    log = read_log(tmp_path)
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(0.5 < entry["loss"] < 2.5 for entry in log)
    assert log[0]["loss"] != log[1]["loss"]
