"""The documentation site as `make site` builds it: every link checked, and loading nothing from elsewhere."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from blocks import ROOT

import k24_rllib
from tests.report.pages import browse, needs_browser

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
"""Attributes by which a page loads something; `<link>` has a rule of its own."""
API = ["k24_rllib", *(f"k24_rllib.{room}" for room in ("sparsity", "envs", "experiments", "comparison", "serve"))]


class Loaded(HTMLParser):
    """The addresses of what a page loads by itself; links that a reader follows are not among them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        followed = tag == "link" and given.get("rel") in ("canonical", "next", "prev")
        address = None if followed else given.get(LOADING.get(tag, "href" if tag == "link" else ""))
        if address:
            self.addresses.append(address)


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    there = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=there)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", place)
    assert done.returncode == 0, done.stderr
    return place


def test_broken_links_are_found(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    mistakes = "[a](no_such_page.md) [b](method.md#no-such-part) [c](../benchmarks/no_such_file.yaml)"
    with (tmp_path / "docs" / "python.md").open("a") as page:
        page.write(f"\n{mistakes}\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    missing = [name for name in ("no_such_page.md", "no-such-part", "no_such_file.yaml") if name not in done.stderr]
    assert not missing, done.stderr


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if "examples" not in page.parts]
    loaded = {page: Loaded(page.read_text()).addresses for page in pages}
    assert all(loaded.values())
    elsewhere = [(page.name, at) for page, its in loaded.items() for at in its if re.match(r"[a-z]+:|//", at)]
    assert not elsewhere
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//", styles)


def test_every_setting_has_a_row(site: Path) -> None:
    text = (site / "settings.html").read_text()
    for name in k24_rllib.ALGORITHMS:
        for key, setting in k24_rllib.ALGORITHMS.settings_class(name).settings().items():
            assert f"<code>{key}</code>" in text, key
            assert f'id="{setting.owner.lower()}"' in text, setting.owner


@pytest.mark.parametrize("module", API)
def test_every_public_name_is_in_the_reference(module: str, site: Path) -> None:
    page = site / "api" / f"{module.rpartition('.')[2].replace('k24_rllib', 'package')}.html"
    known = set(re.findall(r'id="([\w.]+)"', page.read_text()))
    names = [name for name in importlib.import_module(module).__all__ if not name.startswith("_")]
    assert names
    assert not [name for name in names if f"{module}.{name}" not in known]


def test_files_of_the_repository_come_with_the_pages_that_link_to_them(site: Path) -> None:
    text = (site / "tasks.html").read_text()
    assert 'href="repository/benchmarks/tasks.yaml"' in text
    copy = site / "repository" / "benchmarks" / "tasks.yaml"
    assert copy.read_text() == (ROOT / "benchmarks" / "tasks.yaml").read_text()


def test_pages_call_each_other_by_title(site: Path) -> None:
    assert '<a href="results.html">Results</a>' in (site / "method.html").read_text()


@needs_browser
@pytest.mark.parametrize(("page", "width"), [("index", 1280), ("settings", 400), ("api/sparsity", 1280)])
def test_a_browser_opens_a_page_without_a_word(page: str, width: int, site: Path) -> None:
    document, console = browse(site / f"{page}.html", width=width)
    assert not console
    assert 'data-md-component="search"' in document
