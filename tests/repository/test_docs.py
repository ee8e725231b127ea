"""What README and docs show is run, and what their tables say is compared with the code."""

import glob
import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from foreign import checkpoint
from PIL import Image

from siammae import PropagationConfig, list_models, model_info, save_model
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.synthetic import render_clip
from siammae.video import write_video

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page.read_text() for page in sorted(DOCS.rglob("*.md"))}


BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>\w[^>]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
LANGUAGES = {"python", "shell", "text", "yaml", "bibtex"}
NONE_IS_RUN = re.compile(r"<!-- no block of this page is run: \w.* -->")

QUICKLY = {"bench": ["--rounds", "1", "--models"], "demo": ["--frames", "4"]}  # options that make a command short


class Block(NamedTuple):
    reason: str | None  # why it is not run
    language: str
    code: str


def blocks(text: str) -> list[Block]:
    return [Block(**match.groupdict()) for match in BLOCK.finditer(text)]


def commands(code: str) -> Iterator[str]:
    """The commands of a shell block that are siammae's. Installing is not for tests; others must be marked as not run."""
    joined = re.sub(r"(^|\s)#.*", "", code.replace("\\\n", " "), flags=re.MULTILINE)
    for line in filter(None, map(str.strip, joined.splitlines())):
        if not line.startswith("pip "):
            assert line.startswith("siammae "), f"{line}: only commands of siammae are run; say before the block why it is not"
            yield line


def run_command(line: str) -> None:
    """What a shell does with a line: patterns are expanded, the command is run, and the files it names appear.

    Commands side by side may name the same folder: what an earlier one left there is removed, unless this one resumes it.
    """
    arguments = [path for word in shlex.split(line) for path in (sorted(glob.glob(word)) or [word])]
    outputs = [Path(path) for option, path in pairwise(arguments) if option in ("-o", "--overlay")]
    for path in outputs:
        if path.is_dir() and "--resume" not in arguments:
            shutil.rmtree(path)
    code = 0
    try:
        main(arguments[1:] + QUICKLY.get(arguments[1], []))
    except SystemExit as end:
        code = end.code
    assert not code
    assert all(path.exists() for path in outputs)


def run_page(text: str, **names: Any) -> dict[str, Any]:
    """Run the blocks of a page in their order, with one namespace, in the working directory; returns the namespace.

    timm's weights, which are elsewhere, are replaced by the small model `my-model`.
    """
    for reason, language, code in blocks(text):
        code = re.sub(r"timm:[\w.]+", "my-model", code)
        if reason is None and language == "python":
            exec(code, names)
        elif reason is None and language == "shell":
            for line in commands(code):
                run_command(line)
    return names


def table(text: str, header: str) -> list[list[str]]:
    """The rows below the table header that starts with `header`."""
    lines = text[text.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A folder with all the files that README and docs speak of."""
    home = tmp_path_factory.mktemp("files")
    clip = render_clip(4, (200, 400))
    frames, mask = list(clip.frames), Image.fromarray(clip.masks[0])
    for folder in ("frames", "videos", "masks-of-first-frames"):
        (home / folder).mkdir()
    for path in ("horse.mp4", "dog.mp4", "street.mp4", "videos/horse.mp4", "videos/dog.mp4"):
        write_video(home / path, frames, 25)
    for name in ("horse", "dog", "mask", "corrected", "masks-of-first-frames/horse", "masks-of-first-frames/dog"):
        mask.save(home / f"{name}.png")
    Image.fromarray(np.where(clip.masks[0][..., None] == 1, (255, 0, 0), 0).astype(np.uint8)).save(home / "painted.png")
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(home / f"frames/{index}.jpg")
    for folder, pictures in (
        ("DAVIS/JPEGImages/480p", clip.frames),
        ("DAVIS/Annotations/480p", clip.masks),
        ("predictions", clip.masks),
    ):
        (home / folder / "horse").mkdir(parents=True)
        for index, pixels in enumerate(pictures):
            suffix = "jpg" if "JPEG" in folder else "png"
            Image.fromarray(pixels).save(home / folder / "horse" / f"{index:05d}.{suffix}")
    (home / "points.csv").write_text("x,y\n310,142\n388,97\n")
    save_model(encoder, home / "my-model")
    checkpoint(home / "cropmae_k400.pth", "cropmae", depth=2, width=192)
    return home


@pytest.fixture
def home(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with these files."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_runs(home: Path) -> None:
    clip = render_clip(3, (200, 400))
    names = run_page(README, frame0=clip.frames[0], mask0=clip.masks[0], camera=iter(clip.frames[1:]))
    assert np.asarray(names["masks"]).shape == (4, 200, 400)
    assert np.asarray(names["points"]).shape == (4, 2, 2)
    assert np.asarray(names["features"]).shape[:2] == (4, 384)


RUN = [
    page for page, text in PAGES.items() if {"python", "shell"} & {block.language for block in blocks(text) if not block.reason}
]


@pytest.mark.parametrize("page", [page for page in RUN if not NONE_IS_RUN.search(PAGES[page])])
def test_a_page_of_the_docs_runs(page: str, home: Path) -> None:
    run_page(PAGES[page])


@pytest.mark.parametrize("text", [README, *PAGES.values()], ids=["README.md", *PAGES])
def test_a_block_that_is_not_run_says_why(text: str) -> None:
    assert text.count("<!-- not run") == sum(block.reason is not None for block in blocks(text))
    assert text.count("```") == 2 * len(blocks(text))
    for block in blocks(text):
        assert block.language in LANGUAGES
        assert block.language in ("python", "shell") or not re.search(r"^(siammae|import|from) ", block.code, re.MULTILINE)


def test_what_the_operations_page_shows_has_the_shapes_it_says() -> None:
    names: dict[str, Any] = {}
    exec(blocks(PAGES["operation.md"])[0].code, names)
    assert names["mixed"].shape == (3, 30, 53)
    assert names["matches"].similarities.shape == names["matches"].indices.shape == (5, 30, 53)


def test_the_readme_begins_with_two_commands_that_set_everything_up() -> None:
    install, test = [block for block in blocks(README) if block.language == "shell"][:2]
    assert install.code == "pip install -e . && siammae demo\n"
    assert test.code == 'pip install -e ".[dev]" && python -m pytest\n'


def test_the_model_table_is_that_of_the_registry() -> None:
    rows = {row[0].strip("`"): row for row in table(README, "name")}
    assert [name for name in rows if name in list_models()] == list_models()
    for name in list_models():
        info, row = model_info(name), rows[name]
        assert row[2] == str(info.patch_size)
        assert row[3] == f"{info.num_parameters / 1e6:.1f} M"
        assert (row[4] == "none published yet") == (info.weights is None)
        assert row[5] == (info.license or "-")


def test_the_table_of_presets_is_true() -> None:
    words = {"yes": True, "no": False}
    rows = table(PAGES["propagation.md"], "field")
    shown = {re.findall(r"`(\w+)`", row[0])[0]: row[1:] for row in rows}
    assert set(PropagationConfig.__dataclass_fields__) - set(shown) == {
        "layer",
        "lost_below",
        "foreign_below",
        "edge_power",
        "edge_color",
        "edge_radius",
        "edge_eps",
    }
    for field, cells in shown.items():
        for preset, cell in zip(("default", "dino", "crw", "cropmae"), cells, strict=True):
            value = getattr(PropagationConfig.preset(preset), field)
            assert words.get(cell, cell) == (value if isinstance(value, bool) else str(value)), (field, preset)


@pytest.mark.parametrize("page", [ROOT / "README.md", *map(DOCS.joinpath, PAGES)], ids=["README.md", *PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target
