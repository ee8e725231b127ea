"""What is shipped: the wheel and the source archive, and that the wheel alone is enough."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import siammae

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    pytest.importorskip("build", reason="the package build is not installed")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def test_the_wheel_is_pure_and_holds_the_package_alone(dist: Path) -> None:
    assert wheel(dist).name == f"siammae-{siammae.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel(dist)) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"siammae", f"siammae-{siammae.__version__}.dist-info"}
    source = {str(file.relative_to(ROOT)) for file in (ROOT / "siammae").rglob("*") if file.is_file()}
    assert {name for name in names if name.startswith("siammae/")} == {name for name in source if "__pycache__" not in name}
    assert {
        "siammae/py.typed",
        "siammae/models/weights/vitt8d6/model.safetensors",
        "siammae/models/weights/vitt8d6/README.md",
    } <= set(names)
    assert wheel(dist).stat().st_size < 80e6


def test_the_source_archive_holds_what_its_tests_need(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = {name.partition("/")[0] for name in names}
    assert {"siammae", "tests", "examples", "docs", "benchmarks", "LICENSE", "README.md", "CHANGELOG.md"} <= folders
    assert not folders & {"dist", "site", ".venv", "siammae-demo"}


def test_metadata_is_sound(dist: Path) -> None:
    pytest.importorskip("twine", reason="the package twine is not installed")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.count("PASSED") == 2


def test_the_wheel_alone_runs_the_demo(dist: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(home), str(wheel(dist))]
    subprocess.run(install, check=True)
    code = "import siammae.cli; print(siammae.__file__); siammae.cli.main(['demo', '--frames', '3'])"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(home)!r}); {code}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert output.startswith(str(home))
    assert float(re.findall(r"object 1: J (\d\.\d+)", output)[0]) > 0.5
    assert (tmp_path / "siammae-demo" / "overlay.mp4").stat().st_size > 1000
