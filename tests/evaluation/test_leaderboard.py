"""benchmarks/leaderboard.py fills the page from the files that evaluations write."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "# Page\n" + "\n".join(
    f"<!-- {name}: begin -->\nold {name}\n<!-- {name}: end -->" for name in ("development", "apart", "robustness")
)


def write(folder: Path, name: str, model: str, dataset: str, value: float, **figures: Any) -> None:
    folder.mkdir(parents=True)
    content = {
        "dataset": dataset,
        "model": model,
        "protocol": {"name": "best"},
        "headline": {"name": "J&F", "value": value},
        "weights_sha256": "0123456789abcdef",
        "date": "2026-01-01",
        "J": {"mean": value, "recall": 1, "decay": 0.05},
        "F": {"mean": value, "recall": 1, "decay": 0.05},
        "sequences": {"dog": {"score": value - 0.1, "weight": 1}, "camel": {"score": value + 0.1, "weight": 1}},
    }
    (folder / name).write_text(json.dumps(content | figures))


def run(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "leaderboard.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_page_gets_its_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write(tmp_path / "runs" / "a", "scores.json", "small", "davis", 0.6)
    write(tmp_path / "runs" / "b", "scores.json", "big", "davis", 0.8)
    write(tmp_path / "runs" / "c", "scores.json", "big", "badja", 0.5, **{"delta 3 px": 0.25})
    write(tmp_path / "runs" / "d", "scores.json", "big", "davis", 0.7, sequences={"bmx-trees": {"score": 0.7, "weight": 2}})
    write(tmp_path / "runs" / "e" / "clean", "scores.json", "big", "davis", 0.1)
    distortions = {"blur": {"J": 0.55, "J clean": 0.8}}
    about = {"clean": 0.8, "distortions": distortions, "sequences": ["dog", "camel"]}
    (tmp_path / "runs" / "e" / "x").mkdir()
    write(tmp_path / "more", "scores.json", "big", "chen", 0.9)
    content = json.loads((tmp_path / "runs" / "e" / "clean" / "scores.json").read_text())
    (tmp_path / "runs" / "e" / "robustness.json").write_text(json.dumps(content | about))
    done = run(tmp_path / "runs", f"renamed={tmp_path / 'more'}", "--page", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[1].startswith("| big | `best` | 2 | **80.0** (70.0 to 90.0) | 80.0 | 80.0 | 5.0 | 01234567 |")
    assert lines[2].startswith("| small | `best` | 2 | **60.0** (50.0 to 70.0) |")
    assert "| big | `best` | **70.0** (70.0 to 70.0) | **50.0** (40.0 to 60.0) | 25.0 | - |" in lines
    assert "| renamed | `best` | - | - | - | **90.0** (80.0 to 100.0) |" in lines
    assert "| big | `best` | 2 | 80.0 | 55.0 (-25.0) |" in lines
    assert "old" not in text
    for runs in ([tmp_path / "runs", f"renamed={tmp_path / 'more'}"], [tmp_path / "runs" / "e"]):  # other tables stay
        again = run(*runs, "--page", page)
        assert again.returncode == 0
        assert page.read_text() == text


@pytest.mark.parametrize("case", ["no runs", "no comments"])
def test_what_the_script_cannot_use(tmp_path: Path, case: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE if case == "no runs" else "# Page")
    (tmp_path / "runs").mkdir()
    if case == "no comments":
        write(tmp_path / "runs" / "a", "scores.json", "small", "davis", 0.6)
    done = run(tmp_path / "runs", "--page", page)
    assert done.returncode
    assert ("holds no scores.json" if case == "no runs" else "the page lacks") in done.stderr


def test_the_page_of_the_docs_has_the_comments() -> None:
    text = (ROOT / "docs" / "leaderboard.md").read_text()
    for name in ("development", "apart", "robustness"):
        assert text.index(f"<!-- {name}: begin -->") < text.index(f"<!-- {name}: end -->")
