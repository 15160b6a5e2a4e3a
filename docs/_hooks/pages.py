"""What the site has that does not lie in docs/: pages made from the code, and files that pages link to.

MkDocs calls `on_files` once it has listed docs/, and `on_page_markdown` before it renders a page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from k24_rllib.experiments.describe import as_yaml, groups
from k24_rllib.settings import Setting

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files beside the README that are pages of the site, by where they stand there."""
SETTINGS = "settings.md"
COPIES = "repository"
"""Where the site has copies of the files outside docs/ that pages link to."""
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_NAMED = re.compile(r"\[[\w./]+\.md\]\(([\w./]+\.md)")
"""A link whose text is a page's file."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page of settings, the pages from beside the README, and copies of what any page links to."""
    files.append(File.generated(config, SETTINGS, content=settings_page()))
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for path in sorted({path for page in files.documentation_pages() for path in _outside(page)}):
        files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links at where the site has what they mean in the repository, and calls pages by their titles."""
    here = PurePosixPath(page.file.src_uri).parent

    def point(match: re.Match[str]) -> str:
        target = _in_site(_in_repository(page.file.src_uri, match[2]))
        return match[0] if target is None else f"{match[1]}{posixpath.relpath(target, here)}{match[3]}"

    def entitle(match: re.Match[str]) -> str:
        target = files.get_file_from_path(posixpath.normpath(here / match[1]))
        return match[0] if target is None else f"[{_title(target)}]({match[1]}"

    return _NAMED.sub(entitle, _LINK.sub(point, markdown))


def settings_page() -> str:
    """Returns a page of every setting, in Markdown: a table for each class that declares some."""
    lines = [
        "# Settings",
        "",
        "Every setting of every algorithm, from its declaration; `rllib config ALGORITHM` prints the same. In a file",
        "they are keys of `config`, beside RLlib's own; in Python arguments of the configuration's methods",
        "([python.md](python.md)).",
    ]
    for owner, settings in groups():
        lines += ["", f"## {owner}", "", "| setting | default | may be | what it does |", "| --- | --- | --- | --- |"]
        lines += [_row(key, setting) for key, setting in settings.items()]
    return "\n".join(lines) + "\n"


def _row(key: str, setting: Setting) -> str:
    null = ", or null" if setting.optional else ""
    cells = f"`{key}`", f"`{as_yaml(setting.default)}`", setting.expected + null, " ".join(setting.doc.split())
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _title(page: File) -> str:
    """Returns a page's first heading."""
    return page.content_string.partition("\n")[0].removeprefix("# ")


def _outside(page: File) -> set[str]:
    """Returns the files of the repository outside docs/ that a page links to and that are no pages themselves."""
    targets = (_in_repository(page.src_uri, match[2]) for match in _LINK.finditer(page.content_string))
    return {path for path in targets if (_in_site(path) or "").startswith(f"{COPIES}/") and (ROOT / path).is_file()}


def _in_repository(page: str, link: str) -> str:
    """Returns what a page's link means in the repository, a path from its root; '' for an address."""
    if ":" in link or link.startswith("/"):
        return ""
    source = next((source for source, made in ROOT_PAGES.items() if made == page), f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _in_site(path: str) -> str | None:
    """Returns where the site has a path of the repository; None where it is none or does not exist."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{COPIES}/{path}" if path and (ROOT / path).is_file() else None
