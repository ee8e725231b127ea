"""Set the owner of the repository in every file that states its address, or list the places that state another one.

    python docs/set_address.py          # list the places that disagree with pyproject.toml
    python docs/set_address.py OWNER    # set https://github.com/OWNER/siammae everywhere

The address stands in `pyproject.toml` ([project.urls] Repository). README, docs, notebooks and badges repeat it, because
GitHub, Colab and package indexes show these files as they are.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("*.md", "docs/**/*.md", "examples/**/*.md", "examples/**/*.ipynb", "mkdocs.yml", "pyproject.toml", "CITATION.cff")
BEFORE = r"github\.com/", r"colab\.research\.google\.com/github/", r"img\.shields\.io/github/[\w/]+/"
MENTION = re.compile(rf"(?P<before>{'|'.join(BEFORE)})(?P<owner>[\w-]+)(?P<after>/siammae\b)")
SITE = re.compile(r"(?P<before>https://)(?P<owner>[\w-]+)(?P<after>\.github\.io/siammae\b)")


def owner() -> str:
    """Return the owner that the Repository of pyproject.toml names; ValueError if it is no address on GitHub."""
    url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    if not (match := re.fullmatch(r"https://github\.com/([\w-]+)/siammae", url)):
        raise ValueError(f"pyproject.toml: Repository is {url}; expected https://github.com/OWNER/siammae")
    return match[1]


def files() -> list[Path]:
    """List the files that may state the address."""
    return sorted({path for pattern in FILES for path in ROOT.glob(pattern)})


def mentions() -> Iterator[tuple[str, str]]:
    """Yield place ("README.md:3") and owner of every mention of the repository or its site."""
    for path in files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for match in (*MENTION.finditer(line), *SITE.finditer(line)):
                yield f"{path.relative_to(ROOT).as_posix()}:{number}", match["owner"]


def set_owner(name: str) -> None:
    """Write another owner into all files; ValueError if GitHub would not allow the name."""
    if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9])*", name):
        raise ValueError(f"{name} is no name of a GitHub account; expected letters, digits and single hyphens")
    for path in files():
        text = path.read_text(encoding="utf-8")
        for pattern in (MENTION, SITE):
            text = pattern.sub(rf"\g<before>{name}\g<after>", text)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        set_owner(name)
    strangers = [f"{place}: {found}, but pyproject.toml has {owner()}" for place, found in mentions() if found != owner()]
    print("\n".join(strangers) or f"all files name https://github.com/{owner()}/siammae")
    sys.exit(bool(strangers))
