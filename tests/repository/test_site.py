"""The docs as a site: it builds strictly, needs nothing from elsewhere, and names everything that is public."""

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import siammae

ROOT = Path(__file__).parents[2]
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
