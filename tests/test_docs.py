"""What README and docs show is run, and what their tables say is compared with the code."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siammae import PropagationConfig, list_models, model_info, save_model
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.output import write_video
from siammae.synthetic import render_clip

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def table(text: str, header: str) -> list[list[str]]:
    """The rows below the table header that starts with `header`."""
    lines = text[text.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def home(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with all the files that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    clip = render_clip(2, (64, 128))
    for name in ("horse", "dog", "street"):
        write_video(f"{name}.mp4", clip.frames, 25)
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(f"frames/{index}.jpg")
    for name in ("horse", "mask"):
        Image.fromarray(clip.masks[0]).save(f"{name}.png")
    for folder, frames in (("DAVIS/JPEGImages/480p/horse", clip.frames), ("DAVIS/Annotations/480p/horse", clip.masks),
                           ("masks-of-anybody/horse", clip.masks)):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        for index, pixels in enumerate([frames[0], *frames, frames[1]]):
            suffix = "jpg" if "JPEG" in folder else "png"
            Image.fromarray(pixels.astype(np.uint8)).save(f"{folder}/{index:05d}.{suffix}")
    (tmp_path / "points.csv").write_text("x,y\n30,20\n60,40\n")
    save_model(encoder, "my-model")
    return tmp_path


def test_the_python_of_the_readme_runs(home: Path) -> None:
    clip = render_clip(3, (200, 400))
    write_video("horse.mp4", clip.frames, 25)
    Image.fromarray(clip.masks[0]).save("horse.png")
    (code,) = blocks(README, "python")
    names = {"frame0": clip.frames[0], "mask0": clip.masks[0], "camera": iter(clip.frames[1:])}
    exec(code, names)
    assert np.asarray(names["masks"]).shape == (3, 200, 400)
    assert np.asarray(names["points"]).shape == (3, 2, 2)
    assert np.asarray(names["features"]).shape[:2] == (3, 192)


COMMANDS = [line for block in blocks(README, "shell") for line in block.splitlines() if line.startswith("siammae ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_run(home: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = shlex.split(command, comments=True)
    arguments = ["my-model" if argument.startswith("timm:") else argument for argument in arguments]
    monkeypatch.setattr(sys, "argv", arguments)
    if arguments[1] == "bench":
        monkeypatch.setattr(sys, "argv", [*arguments, "--rounds", "1", "--models"])
    main()
    for option in ("-o", "--overlay"):
        if option in arguments:
            assert Path(arguments[arguments.index(option) + 1]).exists()


def test_the_readme_begins_with_two_commands_that_set_everything_up() -> None:
    install, test = blocks(README, "shell")[:2]
    assert install == "pip install -e . && siammae demo\n"
    assert test == 'pip install -e ".[dev]" && python -m pytest\n'


def test_the_model_table_is_that_of_the_registry() -> None:
    rows = {row[0].strip("`"): row for row in table(README, "name")}
    assert [name for name in rows if name in list_models()] == list_models()
    for name in list_models():
        info, row = model_info(name), rows[name]
        assert row[2] == str(info.patch_size)
        assert row[3] == f"{info.num_parameters / 1e6:.1f} M"
        assert (row[4] == "none published yet") == (info.weights is None)
        assert row[5] == (info.licence or "-")


def test_the_table_of_presets_is_true() -> None:
    words = {"yes": True, "no": False}
    rows = table((ROOT / "docs" / "propagation.md").read_text(), "field")
    shown = {re.findall(r"`(\w+)`", row[0])[0]: row[1:] for row in rows}
    assert set(PropagationConfig.__dataclass_fields__) - set(shown) == {"interpolation", "layer", "point_sigma", "point_top_k"}
    for field, cells in shown.items():
        for preset, cell in zip(("default", "dino", "crw", "cropmae"), cells, strict=True):
            value = getattr(PropagationConfig.preset(preset), field)
            assert words.get(cell, cell) == (value if isinstance(value, bool) else str(value)), (field, preset)


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_python_of_the_operations_page_runs() -> None:
    (code,) = blocks((ROOT / "docs" / "operation.md").read_text(), "python")
    names: dict[str, object] = {}
    exec(code, names)
    assert np.asarray(names["mixed"]).shape == (3, 30, 53)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_links_of_the_docs_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target
