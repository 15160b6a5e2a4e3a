"""What the tests of reports share: runs on disk, pages made of them, and what a browser makes of a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint_damage import lay_checkpoint
from tests.trials import line

EPISODES = [-60.0, -50.0, -40.0]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def lay_run(place: Path, *, checkpoints: int = 1, **settings: Any) -> Path:
    """Writes a trial of 10 iterations: two resets, masks frozen near the end, and a real checkpoint of K24QMix."""
    place.mkdir(parents=True)
    config = {"env": "mpe_simple_spread", "env_config": {"N": 2}, "evaluation_interval": 1, "seed": 0, **settings}
    (place / "params.json").write_text(json.dumps(config))
    (place / "result.json").write_text("\n".join(lines()) + "\n")
    for number in range(checkpoints):
        lay_checkpoint(place / f"checkpoint_{number:06}")
    return place


def lines() -> list[str]:
    """Returns the results of such a trial."""
    return [a_line(step) for step in range(100, 1001, 100)]


def a_line(step: int, **more: Any) -> str:
    """Returns one result, of an evaluation whose episodes are `EPISODES`, shifted."""
    metrics = {
        "loss": 1 / step,
        "loss_td": 0.5 / step,
        "temperature": 0.1,
        "resets_total": step // 400,
        "finetune_mode": int(step > 800),
        "my_own_metric": step / 7,
    }
    result = json.loads(line(step, -60.0 + step / 100, metrics, done=step == 1000, **more))
    returns = [value + step / 100 for value in EPISODES]
    result["evaluation"]["env_runners"]["hist_stats"] = {"episode_reward": returns}
    result["env_runners"] = {"episode_return_mean": -70.0 + step / 100}
    return json.dumps(result)


def data_of(html: str) -> list[dict[str, Any]]:
    """Returns what the page's scripts draw, a dict for each section."""
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html, re.DOTALL)
    assert found
    sections: list[dict[str, Any]] = json.loads(found[1])["sections"]
    return sections


def charts_of(html: str) -> dict[str, dict[str, Any]]:
    """Returns all charts of a page by their titles."""
    return {chart["title"]: chart for section in data_of(html) for chart in section["charts"]}


class Tags(HTMLParser):
    """All tags of a page, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.text += data


def browse(page: Path | str, *, width: int = 1280, words: Sequence[str] = ()) -> tuple[str, str]:
    """Opens a file or an address in headless Chromium; returns the document after scripts ran, and the console."""
    assert CHROMIUM is not None
    address = page if isinstance(page, str) else page.absolute().as_uri()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--window-size={width},2000", "--dump-dom", *words]
    done = subprocess.run([CHROMIUM, *options, address], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout, "\n".join(told for told in done.stderr.splitlines() if "CONSOLE" in told)
