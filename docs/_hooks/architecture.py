"""The picture of docs/architecture.md, drawn from the package's imports: `python docs/_hooks/architecture.py`."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = "k24_rllib"
ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "figures" / "architecture.svg"

WIDTH, ROW, BOX, HEIGHT = 900, 86, 132, 38
"""In the picture's units: its width, from one row to the next, and a box's width and height."""
STYLE = """\
  text { font: 15px sans-serif; fill: #1a1a1a; text-anchor: middle; dominant-baseline: central }
  rect { fill: #e3f1ef; stroke: #00796b }
  path { fill: none; stroke: #37474f; stroke-width: 1.5; marker-end: url(#head) }
  path.implied { stroke: #b0bec5; stroke-width: 1; stroke-dasharray: 4 3; marker-end: none }"""

Imports = dict[str, set[str]]
"""Of each room, the rooms that it imports."""


def read_imports(package: Path = ROOT / PACKAGE) -> Imports:
    """Returns what the files of each room import from other rooms, wherever in a file they do."""
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    return {
        room: {name for path in (package / room).rglob("*.py") for name in _imported(path)} & (rooms - {room})
        for room in sorted(rooms)
    }


def draw(imports: Imports) -> str:
    """Returns the picture as SVG: who imports nobody at the bottom, and everybody else one row above what it imports.

    A line that others imply (a room that is also reached through another one) is pale and dashed.

    Raises:
        graphlib.CycleError: if rooms import each other.
    """
    places = _places(imports)
    bottom = max(y for _, y in places.values()) + ROW / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom:g}" role="img">',
        f"<title>Who imports whom in {PACKAGE}</title>",
        f"<style>\n{STYLE}\n</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 L8 4 L0 8 z" style="fill: #37474f; stroke: none"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{bottom:g}" style="fill: #ffffff; stroke: none"/>',
    ]
    lines = [(room, used) for room in imports for used in sorted(imports[room])]
    lines.sort(key=lambda line: not _implied(imports, *line))  # those to be seen last, on top
    parts += [_line(places, room, used, _implied(imports, room, used)) for room, used in lines]
    parts += [_box(room, *places[room]) for room in imports]
    return "\n".join([*parts, "</svg>", ""])


def _imported(path: Path) -> set[str]:
    """Returns the names right below the package that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")}


def _places(imports: Imports) -> dict[str, tuple[float, float]]:
    """Returns the centre of each room's box."""
    levels: dict[str, int] = {}
    for room in TopologicalSorter(imports).static_order():  # a room after all that it imports
        levels[room] = max((levels[used] + 1 for used in imports[room]), default=0)
    places = {}
    for level in range(max(levels.values()) + 1):
        row = [room for room in imports if levels[room] == level]
        y = ROW * (max(levels.values()) - level) + ROW / 2
        for i, room in enumerate(row):
            aside = 0.18 * (len(row) == 1 and level % 2 == 0)  # lines between other rows of one pass beside it
            places[room] = WIDTH * ((i + 0.5) / len(row) + aside), y
    return places


def _implied(imports: Imports, room: str, used: str) -> bool:
    """Returns whether a room reaches what it uses through another room too."""
    return any(used in _reached(imports, other) for other in imports[room] - {used})


def _reached(imports: Imports, room: str) -> set[str]:
    return imports[room].union(*(_reached(imports, used) for used in imports[room]))


def _line(places: dict[str, tuple[float, float]], room: str, used: str, implied: bool) -> str:
    (x1, y1), (x2, y2) = places[room], places[used]
    top, end = y1 + HEIGHT / 2, y2 - HEIGHT / 2
    bend = (end - top) / 2
    curve = f"M{x1:g} {top:g} C{x1:g} {top + bend:g} {x2:g} {end - bend:g} {x2:g} {end:g}"
    kind = ' class="implied"' if implied else ""
    return f'<path id="{room}-{used}"{kind} d="{curve}"><title>{room} imports {used}</title></path>'


def _box(room: str, x: float, y: float) -> str:
    box = f'<rect x="{x - BOX / 2:g}" y="{y - HEIGHT / 2:g}" width="{BOX}" height="{HEIGHT}" rx="5"/>'
    return f'{box}<text x="{x:g}" y="{y:g}">{room}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read_imports()))
