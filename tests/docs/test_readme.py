"""Snippets of the README and of pages it leads to are run from their text, with smaller numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from blocks import ROOT, blocks

README = ROOT / "README.md"
PAGES = [README, *(ROOT / "docs" / f"{name}.md" for name in ("python", "environments"))]
METHOD = ROOT / "docs" / "method.md"
SNIPPETS = [(page.name, code) for page in PAGES for code in blocks(page, "python")]
LONGEST = 9_000
"""Bytes of a README that is read to its end."""
SMALLER = {"200_000": "2_000", "100_000": "2_000", "range(42)": "range(1)", "evaluate_greedy(100": "evaluate_greedy(4"}
"""What makes a snippet of minutes one of seconds and changes nothing of what it shows."""


def smaller(code: str) -> str:
    for given, fewer in SMALLER.items():
        code = code.replace(given, fewer)
    return code


@pytest.mark.parametrize(("page", "code"), SNIPPETS, ids=[f"{page}-{at}" for at, (page, _) in enumerate(SNIPPETS)])
def test_a_python_snippet_runs(page: str, code: str, tmp_path: Path) -> None:
    code = smaller(code)
    start = "import ray\nray.init('local', num_cpus=4, include_dashboard=False, log_to_driver=False)\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def environment(home: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "XDG_CACHE_HOME": str(Path.home() / ".cache")}


def test_settings_shown_as_defaults_are_the_defaults() -> None:
    from k24_rllib import K24QMixConfig

    shown = next(its["config"] for text in blocks(METHOD, "yaml") if set(its := yaml.safe_load(text)) == {"config"})
    shown["pattern"] = "2:4"  # YAML 1.1 counts it in base 60; rllib's reader doesn't
    defaults = {key: setting.default for key, setting in K24QMixConfig.settings().items()}
    assert shown == {key: defaults[key] for key in shown}


def test_every_file_named_is_there() -> None:
    named = re.findall(r"(?:tuned_examples|docs)/[\w/]+\.\w+|\b[A-Z]+\.(?:md|cff)", README.read_text())
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) < LONGEST
