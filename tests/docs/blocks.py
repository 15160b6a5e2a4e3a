"""Code blocks of a Markdown file, as a reader would save or run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\w+\.\w+)\n")
_COMMAND = re.compile(r"^    (rllib .*)$", re.MULTILINE)


def blocks(document: Path, language: str) -> list[str]:
    """Returns a document's blocks of a language, in order."""
    return [text for kind, text in _BLOCK.findall(document.read_text()) if kind == language]


def named_files(document: Path) -> dict[str, str]:
    """Returns the blocks that begin with a file's name in a comment, by that name."""
    found = {}
    for language in ("python", "yaml"):
        for text in blocks(document, language):
            name = _NAME.match(text)
            if name:
                found[name.group(1)] = text
    return found


def commands(document: Path) -> list[str]:
    """Returns the `rllib` commands that a document tells on lines of their own, without comments."""
    text = document.read_text().replace("\\\n", " ")  # a line that goes on in the next
    return [command.partition("#")[0].strip() for command in _COMMAND.findall(text)]
