"""The Grafana dashboard: made from the figures' declarations, in the form of Ray's own, and placed beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.dashboard.modules.metrics.grafana_dashboard_factory import generate_default_grafana_dashboard

from k24_rllib.experiments.dashboards import all_figures, place_dashboard
from k24_rllib.monitoring import PACKAGED, dashboard_text, grafana_dashboard

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ours() -> dict[str, Any]:
    return grafana_dashboard(all_figures())


@pytest.fixture
def rays() -> dict[str, Any]:
    return json.loads(generate_default_grafana_dashboard()[0])


def graphs(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_packaged_file_is_what_the_declarations_make() -> None:
    assert PACKAGED.read_text() == dashboard_text(all_figures()), (
        "write it anew: python -m k24_rllib.experiments.dashboards"
    )


def test_it_is_in_the_package() -> None:
    declared = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^"k24_rllib.monitoring" = \["grafana/\*\.json"\]$', declared, re.MULTILINE)


def test_every_figure_is_drawn_once(ours: dict[str, Any]) -> None:
    drawn = [target["expr"] for panel in graphs(ours) for target in panel["targets"]]
    selector = '{experiment=~"$experiment",algorithm=~"$algorithm",trial=~"$trial"}'
    assert sorted(drawn) == sorted(f"ray_{figure.name}{selector}" for figure in all_figures())
    letters = [[target["refId"] for target in panel["targets"]] for panel in graphs(ours)]
    assert all(len(set(its)) == len(its) for its in letters)


def test_panels_do_not_overlap(ours: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in ours["panels"]:
        place = panel["gridPos"]
        its = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not its & cells
        assert place["x"] + place["w"] <= 24
        cells |= its
    numbers = [panel["id"] for panel in ours["panels"]]
    assert len(set(numbers)) == len(numbers)


def assert_same_form(mine: Any, reference: Any, where: str) -> None:
    """Every key is one that Ray's own has there, with a value of the same type where both have one."""
    if isinstance(mine, dict):
        assert isinstance(reference, dict), where
        for key, value in mine.items():
            assert key in reference, f"{where}/{key}"
            if reference[key] is not None and value is not None and reference[key] != {}:
                assert_same_form(value, reference[key], f"{where}/{key}")
    elif isinstance(reference, list):
        assert isinstance(mine, list), where
    elif not isinstance(reference, dict):
        assert isinstance(mine, type(reference)), where


def test_it_has_the_form_of_rays_own(ours: dict[str, Any], rays: dict[str, Any]) -> None:
    assert ours["schemaVersion"] == rays["schemaVersion"]
    bare = {key: value for key, value in ours.items() if key != "refresh"}  # Ray's own stand still: false
    assert_same_form(bare, rays, "")
    by_type = {panel["type"]: panel for panel in rays["panels"]}
    variables = {its["type"]: its for its in rays["templating"]["list"]}
    for panel in ours["panels"]:
        reference = by_type[panel["type"]]
        assert_same_form({**panel, "targets": []} if "targets" in panel else panel, reference, panel["title"])
        for target in panel.get("targets", []):
            assert_same_form(target, reference["targets"][0], panel["title"])
    for variable in ours["templating"]["list"]:
        reference = variables[variable["type"]]
        assert_same_form(
            variable, {**reference, "current": {"selected": True, "text": None, "value": None}}, "variable"
        )


def test_it_lies_beside_rays_own_with_the_name_of_rays_prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_PROMETHEUS_NAME", "Mine")
    file = place_dashboard(tmp_path)
    assert file == tmp_path / "metrics" / "grafana" / "dashboards" / "k24_dashboard.json"
    first, *_ = json.loads(file.read_text())["templating"]["list"]
    assert (first["name"], first["current"]["value"]) == ("datasource", "Mine")
    monkeypatch.setenv("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", str(tmp_path / "else"))
    assert place_dashboard(tmp_path).parent == tmp_path / "else"
    yaml.safe_load(file.read_text())  # JSON is YAML: nothing in it that Grafana's provisioning could trip over


@pytest.mark.parametrize("name", ["monitoring.md", "metrics.md"])
def test_every_figure_is_named_in_the_documents(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert not [figure.name for figure in all_figures() if f"`{figure.name}`" not in text]
