"""The Grafana dashboard of the live figures, made from their declarations in the form of Ray's own dashboards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k24_rllib.monitoring.export import TAGS
from k24_rllib.monitoring.figures import Figure, unique

PACKAGED = Path(__file__).parent / "grafana" / "k24_dashboard.json"
"""The dashboard of the package's own algorithms, to import into a Grafana of one's own."""

UID = "k24Dashboard"
DATASOURCE = "Prometheus"
"""What Ray calls the Prometheus that it provisions Grafana with, unless RAY_PROMETHEUS_NAME says otherwise."""

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
"""A panel's size and how many stand side by side, on Grafana's grid of 24 columns."""
_EVERY_RUN_HAS = "ray_k24_env_steps"


def dashboard_text(figures: Sequence[Figure], datasource: str = DATASOURCE) -> str:
    """Returns the dashboard as the text of its file."""
    return json.dumps(grafana_dashboard(figures, datasource), indent=2) + "\n"


def grafana_dashboard(figures: Sequence[Figure], datasource: str = DATASOURCE) -> dict[str, Any]:
    """Returns the dashboard: a row for each `row` of the figures and in it a panel for each `panel`.

    Args:
        figures: What it shows; of several with one name the first.
        datasource: Name of the Prometheus that Grafana is to ask at first.
    """
    return {
        "title": "K-2:4 Dashboard",
        "uid": UID,
        "version": 1,
        "schemaVersion": 27,
        "style": "dark",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "tags": ["k24_rllib"],
        "time": {"from": "now-30m", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [_datasource(datasource), *(_variable(tag) for tag in ("experiment", *TAGS[1::-1]))]},
        "panels": _panels(unique(figures)),
    }


def _datasource(name: str) -> dict[str, Any]:
    """Returns the variable that holds the Prometheus to ask, hidden as on Ray's dashboards."""
    return {
        "name": "datasource",
        "type": "datasource",
        "description": "Filter queries of a specific Prometheus type.",
        "query": "prometheus",
        "refresh": 1,
        "hide": 2,
        "includeAll": False,
        "multi": False,
        "current": {"selected": True, "text": name, "value": name},
    }


def _variable(tag: str) -> dict[str, Any]:
    """Returns the variable that picks runs by a tag, of those that the variables before it leave."""
    earlier = {"experiment": (), "algorithm": ("experiment",), "trial": ("experiment", "algorithm")}[tag]
    query = f"label_values({_EVERY_RUN_HAS}{_matching(earlier)}, {tag})"
    return {
        "name": tag,
        "label": tag.capitalize(),
        "type": "query",
        "description": f"Show runs of these values of {tag} alone.",
        "datasource": "${datasource}",
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "allValue": ".+",
        "sort": 1,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _matching(tags: Sequence[str]) -> str:
    """Returns the selector of PromQL that obeys the variables of these tags."""
    return "{" + ",".join(f'{tag}=~"${tag}"' for tag in tags) + "}"


def _panels(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Returns all rows and panels in order, each at its place on the grid."""
    rows: dict[str, dict[str, list[Figure]]] = {}
    for figure in figures:
        rows.setdefault(figure.row, {}).setdefault(figure.panel, []).append(figure)
    panels: list[dict[str, Any]] = []
    y = 0
    for row, its in rows.items():
        position = {"h": 1, "w": _WIDTH * _COLUMNS, "x": 0, "y": y}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row, "collapsed": False, "gridPos": position})
        panels[-1]["panels"] = []
        y += 1
        for index, (title, drawn) in enumerate(its.items()):
            down, across = divmod(index, _COLUMNS)
            place = {"h": _HEIGHT, "w": _WIDTH, "x": _WIDTH * across, "y": y + _HEIGHT * down}
            panels.append(_panel(len(panels) + 1, title, drawn, place))
        y += _HEIGHT * -(-len(its) // _COLUMNS)
    return panels


def _panel(number: int, title: str, figures: Sequence[Figure], place: dict[str, int]) -> dict[str, Any]:
    """Returns one panel of lines: one for each figure and trial."""
    axis = {"format": "short", "label": "", "logBase": 1, "max": None, "min": None, "show": True}
    return {
        "id": number,
        "type": "graph",  # as on Ray's dashboards; Grafana 8 and later draw it as a time series
        "title": title,
        "description": " ".join(f"{figure.name}: {figure.description}" for figure in figures),
        "datasource": "${datasource}",
        "gridPos": place,
        "targets": [_target(figure, chr(ord("A") + index), len(figures)) for index, figure in enumerate(figures)],
        "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
        "lines": True,
        "linewidth": 1,
        "fill": 0,
        "stack": False,
        "nullPointMode": "connected",
        "legend": {"alignAsTable": True, "current": True, "max": True, "min": True, "show": True, "values": True},
        "tooltip": {"shared": True, "sort": 0, "value_type": "individual"},
        "xaxis": {"buckets": None, "mode": "time", "name": None, "show": True, "values": []},
        "yaxes": [axis, axis],
        "yaxis": {"align": False, "alignLevel": None},
    }


def _target(figure: Figure, letter: str, count: int) -> dict[str, Any]:
    """Returns the query of one figure; where a panel has several, the legend says which."""
    which = f"{figure.name.removeprefix('k24_')} " if count > 1 else ""
    return {
        "expr": f"ray_{figure.name}{_matching(('experiment', 'algorithm', 'trial'))}",
        "legendFormat": which + "{{trial}}",
        "refId": letter,
        "interval": "",
    }
