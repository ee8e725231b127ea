"""The docs as a site: it builds strictly, needs nothing from elsewhere, and names everything that is public."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import siammae

ROOT = Path(__file__).parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ASKED = "COCO YOLO rtsp webcam docker wandb colab supervision confidence occlusion s3 SLURM thread license"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}


class Page(HTMLParser):
    """Addresses of what a browser loads with a page, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.ids.add(values.get("id", ""))
        if tag == "link" and values.get("rel") not in ("prev", "next", "canonical"):
            self.loaded.append(values.get("href", ""))
        elif tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason=f"the docs site needs {package}: mkdocs-material and mkdocstrings[python]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_browser_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    assert sum(len(page.loaded) for page in pages.values()) > len(pages)
    for path, page in pages.items():
        assert not [address for address in page.loaded if re.match(r"(\w+:)?//", address)], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(\w+:)?//", path.read_text()), path


def test_all_public_names_are_in_the_reference(site: Path) -> None:
    ids = set().union(*(Page(path.read_text()).ids for path in (site / "api").glob("*.html")))
    assert {f"siammae.{name}" for name in siammae.__all__} <= ids


def test_the_page_of_the_commands_is_what_they_say() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))["page"]()
    assert page.split() == (ROOT / "docs" / "cli.md").read_text().split(), "run python docs/make_cli.py"


def test_the_charts_are_those_of_the_tables() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_charts.py"))
    for name, chart in script["charts"]().items():
        path = ROOT / "docs" / "images" / f"{name}.svg"
        assert script["draw"](chart) == path.read_text(encoding="utf-8"), "run python docs/make_charts.py"
        assert f"](images/{name}.svg)" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_all_files_name_the_same_repository() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "set_address.py"))
    places = dict(script["mentions"]())
    assert {place.partition(":")[0] for place in places} >= {"README.md", "mkdocs.yml", "pyproject.toml", "docs/how-do-i.md"}
    assert set(places.values()) == {script["owner"]()}, "run python docs/set_address.py"


def test_another_owner_is_set_in_all_files(tmp_path: Path) -> None:
    for name in ("README.md", "pyproject.toml", "mkdocs.yml", "examples", "docs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "docs/set_address.py", *arguments], cwd=tmp_path, capture_output=True, text=True)

    assert run("some-one").stdout == "all files name https://github.com/some-one/siammae\n"
    page = (tmp_path / "README.md").read_text()
    assert "git clone https://github.com/some-one/siammae" in page
    assert "colab.research.google.com/github/some-one/siammae" in page
    (tmp_path / "README.md").write_text(
        page.replace("git clone https://github.com/some-one", "git clone https://github.com/another")
    )
    assert (run().returncode, run().stdout.count("another, but pyproject.toml has some-one")) == (1, 1)
    assert "is no name of a GitHub account" in run("no/name").stderr


@pytest.mark.parametrize("word", ASKED.split())
def test_a_word_that_people_search_for_is_in_a_page(site: Path, word: str) -> None:
    places = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    found = {place["location"].partition("#")[0] for place in places if re.search(rf"\b{word}", place["text"], re.IGNORECASE)}
    assert "how-do-i.html" in found
    assert found - {"how-do-i.html", "cli.html"}, f"only the index speaks of {word}"


def test_a_page_has_a_repository_link_an_icon_and_neighbours(site: Path) -> None:
    page = (site / "streaming.html").read_text()
    repository = runpy.run_path(str(ROOT / "docs" / "set_address.py"))["owner"]()
    assert f'<a href="https://github.com/{repository}/siammae"' in page
    assert re.search(r'<link rel="icon" href="images/icon.svg">', page)
    assert all(f"md-footer__link--{side}" in page for side in ("prev", "next"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if find_spec("playwright") is None or BROWSER is None:
        pytest.skip("not installed: playwright and chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def test_the_search_works_from_the_disk(site: Path, browser: Any) -> None:
    """The built site is opened as a file, without a server, and asks no other machine for anything."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(120_000)  # milliseconds; the machine may be busy
    elsewhere: list[str] = []
    page.on(
        "request", lambda request: elsewhere.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    page.goto((site / "index.html").as_uri())
    field = page.locator("input.md-search__input")
    field.click()
    for word in ASKED.split():
        field.fill("")
        field.press_sequentially(word)
        page.locator(f'.md-search-result__link[href*="how-do-i.html?h={word.lower()}" i]').first.wait_for(state="attached")
    assert not elsewhere


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(site: Path, browser: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_default_timeout(120_000)
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
