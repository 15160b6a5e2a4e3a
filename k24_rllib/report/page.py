"""What a page is made of, and the page as HTML.

A page is sections of tables, charts, pictures of masks, and an episode. Tables and words are written into the page
here; what moves is drawn in the browser, by a few hundred lines of plain JavaScript beside this file, from numbers that
stand in the page. Plotly was looked at and left out: its Python package (7.1.0) has its whole bundle alone, 4.8 MB that
every run's report would hold and the browser read, and no key reaches its charts.

Whatever comes from a run may be anything: Jinja escapes all that stands in the page, and the scripts set text alone.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("charts.js", "masks.js", "episode.js", "page.js")
LIVE_SCRIPT = "live.js"
DIGITS = 6
"""Of a number in the page; float32 has as many."""


@dataclass(frozen=True)
class Line:
    """A line of a chart, `G` points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """Ends of an interval at each point, drawn as a band."""
    high: Sequence[float] | None = None
    style: int = 0
    """Which of the figure's colours and line styles, as `comparison.figure.look` numbers them."""
    points: bool = False
    """Whether there are points alone, and no line."""


@dataclass(frozen=True)
class Mark:
    """Something that happened during training."""

    x: float
    name: str


@dataclass(frozen=True)
class Chart:
    """A panel with an x axis of its own."""

    title: str
    lines: Sequence[Line]
    x_label: str = "environment steps"
    y_label: str = ""
    about: str = ""
    """What it shows and what is healthy, in a sentence."""
    marks: Sequence[Mark] = ()
    second: tuple[str, float, float] | None = None
    """An axis on the right: its label, and what y is there, `scale * (y + shift)`."""
    ticks: Sequence[str] = ()
    """Names of the whole numbers of the x axis, where it is one of names."""
    log_x: bool = False


@dataclass(frozen=True)
class Table:
    """Cells, the first row being the header; the first column names the row."""

    rows: Sequence[Sequence[str]]
    caption: str = ""
    shades: Sequence[Sequence[float | None]] = ()
    """How dark each cell is, 0 to 1, header and first column left out; nothing for a plain table."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    notes: Sequence[str] = ()
    """What a reader must know, and what is not there."""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    text: str = ""
    """Lines to copy, commands or a file."""
    masks: Sequence[Mapping[str, Any]] = ()
    """See `report.masks`."""
    episode: Mapping[str, Any] | None = None
    """See `report.episode`."""
    image: str = ""
    """A picture as a data URI."""


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    sections: Sequence[Section] = field(default_factory=list)


def render(page: Page, live: str = "") -> str:
    """Returns the page as HTML, which refers to nothing outside itself.

    Args:
        page: What it shows.
        live: Which version of a page this is that `report.live` serves and that renews itself; nothing for a file.
    """
    from k24_rllib import __version__

    drawn = [
        {
            "charts": [asdict(chart) for chart in section.charts],
            "masks": section.masks,
            "episode": section.episode,
        }
        for section in page.sections
    ]
    return _template().render(
        page=page,
        data=_as_json({"sections": drawn, "looks": _looks()}),
        live=live,
        style=_source("report.css"),
        scripts=[_source(name) for name in (*SCRIPTS, *([LIVE_SCRIPT] if live else []))],
        version=__version__,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return made.get_template("report.html")


@cache
def _source(name: str) -> Any:
    """Returns a style sheet or a script of this package, which is no user's and stands in the page as it is."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _looks() -> list[dict[str, str]]:
    """Returns the colours and dashes of the comparison's figures, in order."""
    from k24_rllib.comparison.figure import COLOURS, STYLES, look

    dashes = {"-": "", "--": "7 3", "-.": "7 3 2 3", ":": "2 3"}
    looks = [look(index) for index in range(len(COLOURS) * len(STYLES))]
    return [{"colour": colour, "dash": dashes[style]} for colour, style in looks]


def _as_json(content: Any) -> Any:
    """Returns JSON that may stand in a script element: nothing in it can end the element or begin another."""
    from markupsafe import Markup

    text = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _plain(value: Any) -> Any:
    """Returns what JSON can hold: numbers shortened, and None for those that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, bool | str) or value is None:
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return [_plain(each) for each in value]
