"""A real Prometheus scrapes a real run, as Ray's own settings have it, and has every figure and every panel's data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 120
PROMETHEUS = shutil.which("prometheus")

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="no `prometheus` here (Debian: apt-get install prometheus)")


def eventually(what: str, ask: Callable[[], Any]) -> Any:
    """Asks until there is an answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"no {what} within {PATIENCE_S} s")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, tiny_once: dict[str, Any]) -> Iterator[str]:
    """A run of `rllib train --dashboard`, for as long as it is looked at; gives the directory of Ray's session."""
    folder = tmp_path_factory.mktemp("run")
    spec = {**tiny_once, "stop": {"timesteps_total": 10_000_000}}
    spec["config"] |= {"env_config": {"N": 3}, "evaluation_interval": 5, "evaluation_duration": 2}
    (folder / "live.yaml").write_text(json.dumps({"live": spec}))
    words = ["train", "-f", str(folder / "live.yaml"), "--dashboard", "--storage-path", str(folder)]
    output = folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "k24_rllib.cli.main", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        eventually("progress", lambda: process.poll() is not None or "\nsteps " in output.read_text())
        assert process.poll() is None, output.read_text()
        assert re.search(r"^dashboard at http://127\.0\.0\.1:\d+$", output.read_text(), re.MULTILINE)
        told = re.search(r"^Prometheus and Grafana settings in (.*)/metrics", output.read_text(), re.MULTILINE)
        assert told, output.read_text()
        yield told[1]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130, output.read_text()
    finally:
        process.kill()


@pytest.fixture(scope="module")
def query(training: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """Asks a Prometheus that is run with the settings which Ray wrote, but looks more often."""
    folder = tmp_path_factory.mktemp("prometheus")
    eventually("list of what to scrape", (Path(training) / "prom_metrics_service_discovery.json").exists)
    settings = (Path(training) / "metrics" / "prometheus" / "prometheus.yml").read_text()
    (folder / "prometheus.yml").write_text(re.sub(r"(scrape_interval:) 10s", r"\1 1s", settings))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([str(PROMETHEUS), *words, f"--web.listen-address={address}"], stdout=log, stderr=log)

    def ask(expression: str) -> list[Any]:
        words = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://{address}/api/v1/query?{words}", timeout=10) as reply:
                found: list[Any] = json.load(reply)["data"]["result"]
        except urllib.error.URLError:
            assert process.poll() is None, (folder / "log.txt").read_text()
            return []
        return found

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_prometheus_has_every_figure_with_trial_and_algorithm(query: Callable[[str], list[Any]]) -> None:
    from k24_rllib import K24QMix

    assert len(K24QMix.figures) >= 20
    for figure in K24QMix.figures:
        (series,) = eventually(figure.name, lambda figure=figure: query(f"ray_{figure.name}"))
        labels = series["metric"]
        assert (labels["algorithm"], labels["experiment"]) == ("K24QMix", "live")
        assert re.fullmatch(r"K24QMix_mpe_simple_spread_\w+_00000", labels["trial"])
        float(series["value"][1])
    (density,) = eventually("density", lambda: query("ray_k24_density"))
    assert float(density["value"][1]) == 0.5


def test_every_panel_of_the_grafana_dashboard_has_data(training: str, query: Callable[[str], list[Any]]) -> None:
    board = json.loads((Path(training) / "metrics/grafana/dashboards/k24_dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) >= 15
    for panel in panels:
        for target in panel["targets"]:
            expression = re.sub(r"\$\w+", ".+", target["expr"])  # what Grafana makes of a variable that stands at All
            assert eventually(f"data for {panel['title']}", lambda it=expression: query(it))
    assert not query('ray_k24_return{trial=~"another"}')
