"""The page in a real browser: nothing on the console, everything drawn, and the keys do what the page says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from k24_rllib.report import write_report
from tests.report.pages import a_line, browse, lay_run, needs_browser

pytestmark = needs_browser

KEYS = """
<script>
const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const plot = document.querySelector(".plot");
const readout = plot.parentElement.querySelector(".readout");
const told = [];
press(plot, "End"); told.push(readout.textContent);
press(plot, "ArrowLeft"); told.push(readout.textContent);
press(plot, "+"); press(plot, "+"); told.push(plot.querySelectorAll("svg text").length > 0 ? "zoomed" : "");
told.push(plot.parentElement.querySelector(".tool:last-of-type").hidden ? "all" : "part");
press(plot, "0"); told.push(plot.parentElement.querySelector(".tool:last-of-type").hidden ? "all" : "part");
const line = plot.parentElement.querySelector(".legend button");
line.click(); told.push(`${line.getAttribute("aria-pressed")} ${plot.querySelectorAll("svg path").length}`);
const frame = document.querySelector(".mask-frame");
press(frame, "ArrowRight"); press(frame, "ArrowRight");
told.push(frame.parentElement.querySelector(":scope > .readout").textContent);
const slider = document.querySelector(".stage input");
slider.value = 3; slider.dispatchEvent(new Event("input"));
told.push(document.querySelector(".stage p").textContent, document.querySelectorAll(".stage td.chosen").length);
document.documentElement.dataset.told = told.join("|");
</script>
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    trial = lay_run(tmp_path / "exp" / "K24QMix_0", note="</script><script>document.title='evil'</script>")
    file = tmp_path / "report.html"
    write_report([str(trial)], file)
    return file


@pytest.mark.parametrize("width", [1280, 400])
def test_everything_is_drawn_and_the_console_is_silent(page: Path, width: int) -> None:
    document, console = browse(page, width=width)
    assert console == ""
    assert 'data-drawn="yes"' in document
    assert document.count('class="plot"') == 4  # return, loss, temperature, and a metric of one's own
    assert document.count("<canvas") == 1
    assert "data:image/png;base64," in document
    assert "<title>exp: K24QMix" in document


def test_an_error_of_the_page_would_be_heard(page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", "<script>nothing.at.all()</script></body>"))
    assert "nothing is not defined" in browse(page)[1]


def test_the_network_is_out_of_reach(page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", "<img src='http://127.0.0.1:9/x.png'></body>"))
    assert "Content Security Policy" in browse(page)[1]


def test_the_keys_do_what_the_page_says(page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", f"{KEYS}</body>"))
    document, console = browse(page)
    assert console == ""
    told = document.partition('data-told="')[2].partition('"')[0].split("|")
    end, left, zoomed, part, whole, line, cell, step, chosen = told
    assert end.startswith("environment steps 1,000: greedy, most likely masks -50 [")
    assert left.startswith("environment steps 900: greedy, most likely masks -51 [")
    assert (zoomed, part, whole) == ("zoomed", "part", "all")
    assert line == "false 1"  # of the return's two lines one is left
    assert cell.startswith("output 0, input 1: kept by ")
    assert step.startswith("step 3 of 5, return so far ")
    assert chosen == "2"


def test_the_page_is_no_wider_than_a_narrow_screen(page: Path) -> None:
    measure = (
        "<script>document.documentElement.dataset.wide = document.documentElement.scrollWidth - innerWidth</script>"
    )
    page.write_text(page.read_text().replace("</body>", f"{measure}</body>"))
    document, _ = browse(page, width=400)
    assert int(document.partition('data-wide="')[2].partition('"')[0]) <= 0


def test_twenty_long_runs_are_soon_there(tmp_path: Path) -> None:
    """Time within the browser, from the document's beginning until all is drawn."""
    for seed in range(20):
        trial = lay_run(tmp_path / "exp" / f"K24QMix_{seed}", checkpoints=0, seed=seed)
        (trial / "result.json").write_text("".join(f"{a_line(step)}\n" for step in range(5000, 1_000_001, 5000)))
    file = tmp_path / "report.html"
    write_report([str(tmp_path / "exp")], file)
    measure = "<script>document.documentElement.dataset.ms = performance.now()</script>"
    file.write_text(file.read_text().replace("</body>", f"{measure}</body>"))
    began = time.monotonic()
    document, console = browse(file)
    taken = time.monotonic() - began
    assert console == ""
    assert float(document.partition('data-ms="')[2].partition('"')[0]) < 3000, taken
    assert file.stat().st_size < 15_000_000
