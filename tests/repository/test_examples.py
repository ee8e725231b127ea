"""The examples, each run as its user runs it, and the notebooks."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from csv import DictReader
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from siammae import load_model, read_frames
from siammae.evaluation.metrics import region_similarity
from siammae.labels import write_mask
from siammae.synthetic import Clip, render_clip
from siammae.video import read_image, write_video

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(7, (120, 216))


@pytest.fixture
def video(clip: Clip, tmp_path: Path) -> str:
    write_video(tmp_path / "pond.mp4", clip.frames, clip.fps)
    return "pond.mp4"


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]


def run(folder: Path, name: str, *arguments: object, status: int = 0) -> str:
    """What an example prints, run in `folder`."""
    done = subprocess.run(
        command(name, *arguments), cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def pictures(path: Path) -> NDArray[np.uint8]:
    """The frames [T, H, W, 3] of a video."""
    return np.stack([frame.permute(1, 2, 0).numpy() for frame in read_frames(path)])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_listed(path: Path) -> None:
    code = path.read_text()
    assert len(code.splitlines()) <= 60
    assert f"python examples/{path.name}" in code
    assert f"python examples/{path.name}" in (ROOT / "examples" / "README.md").read_text()


def test_masks(clip: Clip, video: str, tmp_path: Path) -> None:
    mask = np.array([0, 3, 7], dtype=np.uint8)[clip.masks[0]]
    write_mask(tmp_path / "pond.png", mask)
    run(tmp_path, "masks.py", video, "pond.png", "-o", "results", "--size", 120)
    masks = [np.array(read_image(path)) for path in sorted((tmp_path / "results").glob("*.png"))]
    assert len(masks) == 7
    assert np.array_equal(masks[0], mask)
    for animal, label in ((1, 3), (2, 7)):
        assert region_similarity(clip.masks[6] == animal, masks[6] == label) > 0.6
    overlay = pictures(tmp_path / "results" / "overlay.mp4")
    changed = np.abs(overlay.astype(int) - clip.frames).mean(axis=3)
    assert changed[clip.masks > 0].mean() > 20 > 8 > changed[clip.masks == 0].mean()


def test_keypoints(clip: Clip, video: str, tmp_path: Path) -> None:
    given = clip.points[0, 1:3]
    run(tmp_path, "keypoints.py", video, "--point", *given[0], "--point", *given[1], "-o", "results")
    with open(tmp_path / "results" / "points.csv", newline="") as file:
        rows = list(DictReader(file))
    points = np.array([(row["x"], row["y"]) for row in rows], dtype=float).reshape(7, 2, 2)
    assert points[0] == pytest.approx(given, abs=1e-3)
    assert np.linalg.norm(points - clip.points[:, 1:3], axis=2)[1:].mean() < 4
    assert pictures(tmp_path / "results" / "points.mp4").shape == clip.frames.shape


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to another process on Windows")
def test_an_endless_camera_takes_flat_memory_and_ends_well(tmp_path: Path) -> None:
    def memory() -> int:
        status = Path(f"/proc/{process.pid}/status")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0]) if status.exists() else 0

    used = {}
    with subprocess.Popen(
        command("camera.py", "--size", 32), cwd=tmp_path, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("a second\n"):
                used[int(line.split()[0])] = memory()
            if 160 in used and process.poll() is None:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert used[160] - used[60] < 15_000  # kB; 100 frames are 30,000
    assert len(pictures(tmp_path / "out" / "camera.mp4")) >= 160


def test_a_camera_may_be_a_file(clip: Clip, video: str, tmp_path: Path) -> None:
    run(tmp_path, "camera.py", video, "--box", 35, 32, 85, 80, "--size", 120, "-o", "labelled.mp4")
    labelled = pictures(tmp_path / "labelled.mp4")
    assert len(labelled) == 6
    reddened = clip.frames[1:, ..., 1] - labelled[..., 1].astype(int) > 15
    turtle = clip.masks[1:] == 2
    assert reddened[turtle].mean() > 0.5 > 0.1 > reddened[~turtle].mean()


def test_a_correction_helps(tmp_path: Path) -> None:
    printed = run(tmp_path, "correction.py", "--frames", 14, "--at", 9, "--size", 120)
    before, after = map(float, re.findall(r"(0\.\d+) with", printed))
    assert after > before + 0.02
    assert read_image(tmp_path / "out" / "correction.png").size == (3 * 432 + 8, 3 * 240 + 8)


def test_feature_pca_has_colours_that_stay(tmp_path: Path) -> None:
    printed = run(tmp_path, "feature_pca.py", "--every", 1, "--count", 3, "--size", 120)
    assert "features [3, 192, 15, 27]" in printed
    sheet = np.array(read_image(tmp_path / "out" / "feature_pca.png"))
    assert sheet.shape == (2 * 240 + 4, 3 * 432 + 8, 3)
    colours = sheet[244:].astype(float)
    first, second = colours[:, :432], colours[:, 436:868]
    assert first.std(axis=(0, 1)).min() > 30
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.8


def test_nearest_patches_of_a_picture_and_itself(clip: Clip, tmp_path: Path) -> None:
    Image.fromarray(clip.frames[0]).save(tmp_path / "pond.png")
    printed = run(tmp_path, "nearest_patch.py", "pond.png", "pond.png", "--every", 4)
    assert printed.startswith("91 of 91 patches")
    assert read_image(tmp_path / "out" / "nearest_patch.png").size == (216, 240)


def test_any_backbone(tmp_path: Path) -> None:
    models = ("vitt8d6", "timm:vit_tiny_patch16_224")
    rows = [
        line.split() for line in run(tmp_path, "any_backbone.py", *models, "--no-pretrained", "--frames", 4).splitlines()[1:]
    ]
    assert [row[:3] for row in rows] == [["vitt8d6", "8", "192"], ["timm:vit_tiny_patch16_224", "16", "192"]]
    assert all(float(score) > 0.5 for row in rows for score in row[-2:])


def test_train_on_folder(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    run(tmp_path, "train_on_folder.py", "--minutes", 0.03, "--batch", 4, "--workers", 0)
    model = load_model(tmp_path / "out" / "trained" / "model")
    assert (model.depth, model.patch_size) == (4, 8)
    assert model.metadata["training"]["pairs"] >= 4
    assert list((tmp_path / "out" / "trained" / "run").glob("reconstruction-*.png"))


def test_embed_with_ray(clip: Clip, video: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='embed_with_ray.py needs pip install "ray[data]"')
    whole = (tmp_path / video).read_bytes()
    for name, content in (("a.mp4", whole), ("b.mp4", whole[:2000]), ("more/a.mp4", whole), ("done.mp4", whole)):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    made = tmp_path / "made"
    made.mkdir()
    (made / "done.mp4.safetensors").touch()  # by an earlier run

    def embed(status: int) -> str:
        return run(tmp_path, "embed_with_ray.py", "videos", "-o", "made", "--every", 3, "--size", 64, status=status)

    printed = embed(status=1)
    assert "4 videos, 1 of them done before" in printed
    assert f"{tmp_path / 'videos' / 'b.mp4'} cannot be read" in printed
    files = {path.relative_to(made).as_posix(): path for path in made.rglob("*.*")}
    assert set(files) == {"a.mp4.safetensors", "done.mp4.safetensors", "more/a.mp4.safetensors"}
    assert files["done.mp4.safetensors"].stat().st_size == 0
    assert load_file(files["more/a.mp4.safetensors"])["features"].shape == (3, 192, 8, 14)

    (tmp_path / "videos" / "b.mp4").unlink()
    written = {path: path.stat().st_mtime_ns for path in files.values()}
    assert embed(status=0) == "3 videos, 3 of them done before\n"
    assert {path: path.stat().st_mtime_ns for path in files.values()} == written


@pytest.mark.skipif(sys.platform == "win32", reason="the test kills a process by a signal")
def test_a_killed_embedder_is_started_again(clip: Clip, video: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='embed_with_ray.py needs pip install "ray[data]"')
    psutil = pytest.importorskip("psutil")
    names = [f"{k}.mp4" for k in range(6)]
    (tmp_path / "videos").mkdir()
    for name in names:
        (tmp_path / "videos" / name).write_bytes((tmp_path / video).read_bytes())
    environment = os.environ | ENVIRONMENT | {"RAY_worker_niceness": "0"}
    words = command("embed_with_ray.py", "videos", "-o", "made", "--every", 1, "--size", 64)
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = ""
        while ".mp4: [" not in printed:
            line = process.stdout.readline()
            assert line, "it ended before a video was done"
            printed += line
        children = psutil.Process(process.pid).children(recursive=True)
        actors = [child for child in children if "MapWorker" in " ".join(child.cmdline())]
        assert len(actors) == 1
        actors[0].kill()
        printed += process.stdout.read()
    assert process.returncode == 0
    assert all(f"{name}: [7, 192, 8, 14]" in printed for name in names)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [f"{name}.safetensors" for name in names]


def test_export_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    printed = run(tmp_path, "export_onnx.py", "--input", 40, 72)
    assert float(printed.split()[-1]) > 0.9999
    (output,) = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx").get_outputs()
    assert output.shape == [1, 192, 5, 9]


def test_supervision_detections(tmp_path: Path) -> None:
    pytest.importorskip("supervision", reason="supervision_detections.py needs pip install supervision")
    run(tmp_path, "supervision_detections.py", "--size", 64)
    drawn, clip = pictures(tmp_path / "out" / "supervision.mp4"), render_clip(24)
    difference = np.abs(drawn.astype(int) - clip.frames)
    assert len(drawn) == 24
    assert difference[:, 200:].mean() < 8  # below the animals nothing is drawn, and red is not blue
    assert difference[0][clip.masks[0] > 0].mean() > 20


def executed(notebook: Path, folder: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook with their outputs."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = "import sys, nbclient, nbformat as f; f.write(nbclient.execute(f.read(sys.argv[1], 4)), sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, notebook, "done.ipynb"], cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    cells = json.loads((folder / "done.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def shown(cell: dict[str, Any]) -> NDArray[np.uint8]:
    """The picture [H, W, 3] that a cell displays."""
    (data,) = [output["data"]["image/png"] for output in cell["outputs"] if "data" in output]
    return np.array(Image.open(BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_with_outputs(path: Path) -> None:
    """A notebook was run from top to bottom without an error, its pictures are there, and its badge opens it in Colab."""
    first, *cells = json.loads(path.read_text())["cells"]
    assert f"/examples/notebooks/{path.name})" in "".join(first["source"])
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [
        output for cell in code for output in cell["outputs"] if output["output_type"] not in ("stream", "execute_result")
    ]
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"]) >= 5
    assert path.stat().st_size < 4e6


def test_the_propagation_notebook(tmp_path: Path) -> None:
    cells = executed(ROOT / "examples" / "notebooks" / "propagation.ipynb", tmp_path)
    printed = "".join(line for cell in cells for output in cell["outputs"] for line in output.get("text", []))
    before, after = (float(score) for score in re.findall(r"frame 24.*turtle (\S+)", printed))
    assert after > before + 0.02
    assert [shown(cells[i]).shape for i in (1, 2, 3)] == [(240, 432, 3), (240, 432, 3), (484, 868, 3)]


def test_the_features_notebook(tmp_path: Path) -> None:
    cells = executed(ROOT / "examples" / "notebooks" / "features.ipynb", tmp_path)
    assert [shown(cells[i]).shape for i in (1, 3, 4, 5, 6)] == [(484, 868, 3)] * 3 + [(728, 868, 3), (972, 868, 3)]
    by_position, by_content = (shown(cells[i])[:240, :432].astype(float) for i in (3, 4))
    drift = [np.abs(half[:120].mean(axis=(0, 1)) - half[120:].mean(axis=(0, 1))).max() for half in (by_position, by_content)]
    assert drift[0] > 2 * drift[1]  # top and bottom differ less in colour where position is taken away
