"""A sweep: a list of lines, a run for each, and a table of J."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siammae.cli import main
from siammae.cli.sweep import table
from siammae.labels import write_mask
from siammae.synthetic import render_clip
from siammae.training.sweep import read_sweep

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = """
output: unused
model: {architecture: vit_tiny_patch16_224, depth: 1, patch_size: 8, image_size: 32, decoder_depth: 1, future_ratio: 0.75}
data: {path: FRAMES, kind: frames, fps: 10, gap: [0.1, 0.3], workers: 0}
batch_size: 4
steps: 2
precision: float32
device: cpu
log_every: 1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A tiny configuration, and frames to train on."""
    for number in range(2):
        folder = tmp_path / "frames" / str(number)
        folder.mkdir(parents=True)
        picture = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        for k in range(6):
            Image.fromarray(np.roll(picture, k, axis=1)).save(folder / f"{k}.png")
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.replace("FRAMES", str(tmp_path / "frames")))
    return path


def rows(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rows.yaml"
    path.write_text(text)
    return path


def davis(root: Path) -> Path:
    """One sequence of five frames in DAVIS's layout."""
    clip = render_clip(5, (64, 96))
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p" / "pond").mkdir(parents=True)
    for k, (frame, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        Image.fromarray(frame).save(root / "JPEGImages" / "480p" / "pond" / f"{k:05d}.jpg", quality=95)
        write_mask(root / "Annotations" / "480p" / "pond" / f"{k:05d}.png", mask)
    return root


def test_every_line_is_checked_before_any_run(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = read_sweep(
        config, rows(tmp_path, '- ""\n- model.decoder=cross  seed=3\n- "data.gap=[0.1,0.2]"\n'), out, ("seed=1",)
    )
    assert [row.folder for row in found] == ["default", "model.decoder=cross_seed=3", "data.gap=_0.1,0.2_"]
    assert [row.label for row in found] == ["(no change)", "model.decoder=cross seed=3", "data.gap=[0.1,0.2]"]
    assert [row.config.seed for row in found] == [1, 3, 1]
    assert found[1].config.model.decoder == "cross"
    assert found[1].config.output == str(out / "model.decoder=cross_seed=3")
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- model.decodr=cross\n", r"line 'model\.decodr=cross': unknown key model\.decodr; did you mean model\.decoder\?"),
        ("- seed=1\n- seed=1\n", "are the same run"),
        ("model: joint\n", "holds no list of lines"),
        ("- model.decoder: cross\n", "holds no list of lines"),
        ("[]\n", "holds no list of lines"),
        ("- [\n", "is not YAML"),
    ],
)
def test_a_list_that_cannot_work_is_named(config: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_sweep(config, rows(tmp_path, text), tmp_path / "out")


def test_a_sweep_trains_scores_and_goes_on_after_a_failure(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second line's data do not exist: its row says so, and the third still runs."""
    lines = rows(tmp_path, f'- ""\n- data.path={tmp_path / "nowhere"}\n- model.decoder=cross\n')
    out = tmp_path / "out"
    words = ["sweep", str(config), str(lines), "-o", str(out), "--davis", str(davis(tmp_path / "davis")), "--size", "64"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "1 of 3 runs failed: data.path=" in printed.err
    results = json.loads((out / "sweep.json").read_text())
    assert [result["failure"] for result in results] == ["", "exit code 2", ""]
    assert all(result["past_frames"] == 8 and 0 < result["J"] <= 1 for result in results if not result["failure"])
    assert results[0]["loss"] != results[2]["loss"]
    text = (out / "sweep.md").read_text()
    assert text.strip() in printed.out
    assert text.splitlines()[2].startswith(f"| (no change) | {results[0]['J']:.3f} | +0.000 |")


def test_a_table_without_scores_has_losses() -> None:
    found = {"failure": "", "past_frames": 2048, "minutes": None, "loss": 0.5}
    assert table([{"overrides": "", **found}, {"overrides": "seed=1", **found, "minutes": 2.04}]).splitlines() == [
        "| run | loss | past frames | minutes |",
        "|---|---|---|---|",
        "| (no change) | 0.5000 | 2,048 |  |",
        "| `seed=1` | 0.5000 | 2,048 | 2.0 |",
    ]
